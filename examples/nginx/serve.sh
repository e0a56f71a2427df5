#!/bin/sh
# The app of ../sync_app and its streams under /app behind nginx: http://127.0.0.1:8000/app/
#
#     sh examples/nginx/serve.sh

: "${PORT:=8000}"
cd "$(dirname "$0")" || exit
folder=$(mktemp -d)
sed "s/:8000/:$PORT/; s/:8001/:$((PORT + 1))/; s/:8002/:$((PORT + 2))/" nginx.conf > "$folder/nginx.conf"
trap 'kill $nginx $app; wait; rm -r "$folder"' INT TERM

nginx -e stderr -p "$folder" -c "$folder/nginx.conf" & nginx=$!
# gunicorn takes SCRIPT_NAME off each path, url_for puts it on. One address for all: no PAGES of others.
SCRIPT_NAME=/app STREAMS=/app/streaming PAGES='' PORT=$((PORT + 1)) sh ../sync_app/serve.sh & app=$!
wait
