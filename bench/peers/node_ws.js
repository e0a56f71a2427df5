// npm's ws: a chat and an echo.
'use strict';
const http = require('node:http');
const { WebSocket, WebSocketServer } = require('ws');

const chat = new WebSocketServer({ noServer: true });
const echo = new WebSocketServer({ noServer: true });
const server = http.createServer((request, response) => response.writeHead(404).end());

server.on('upgrade', (request, socket, head) => {
  const end = request.url === '/echo' ? echo : chat;
  end.handleUpgrade(request, socket, head, (client) => end.emit('connection', client));
});
chat.on('connection', (client) => {
  client.on('error', () => client.terminate());
  client.on('message', (text) => {
    for (const other of chat.clients) {
      if (other.readyState !== WebSocket.OPEN) continue;
      other.send(`${other === client ? 'You' : 'Other client'} said: ${text}`);
    }
  });
  client.send('Welcome to the WebSocket server!');
});
echo.on('connection', (client) => {
  client.on('error', () => client.terminate());
  client.on('message', (text) => client.send(`You said: ${text}`));
});
server.listen({ host: '127.0.0.1', port: Number(process.env.PORT), backlog: 4096 });
