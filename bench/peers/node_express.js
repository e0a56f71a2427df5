// npm's express: one response per subscriber, written to for every message.
'use strict';
const express = require('express');

const app = express();
const subscribers = new Set();

app.get('/events', (request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  response.flushHeaders();
  subscribers.add(response);
  request.on('close', () => subscribers.delete(response));
});
app.post('/publish', express.text({ type: '*/*', limit: '1mb' }), (request, response) => {
  for (const subscriber of subscribers) subscriber.write(`data: ${request.body}\n\n`);
  response.sendStatus(204);
});
app.listen({ host: '127.0.0.1', port: Number(process.env.PORT), backlog: 4096 });
