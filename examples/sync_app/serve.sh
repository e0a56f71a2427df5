#!/bin/sh
# Start the app and its streams, each in a gunicorn; Ctrl+C ends both.
cd "$(dirname "$0")" && mkdir -p instance || exit
: "${PORT:=8000}" "${STREAMING_LOG:=sqlite:///$PWD/instance/orders.db}"  # or redis://…
: "${SECRET_KEY:=$(od -An -N16 -tx1 /dev/urandom | tr -d ' ')}"  # what both must have in common
: "${PAGES=http://127.0.0.1:$PORT}" "${STREAMS=http://127.0.0.1:$((PORT + 1))/streaming}"
export STREAMING_LOG SECRET_KEY PAGES STREAMS
trap 'kill $app $streams; wait' INT TERM
gunicorn --no-control-socket --bind "127.0.0.1:$PORT" --workers 2 app:app & app=$!
gunicorn --no-control-socket --bind "127.0.0.1:$((PORT + 1))" -k gevent streams:app & streams=$!
wait
