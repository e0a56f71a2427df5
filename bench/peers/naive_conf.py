"""gunicorn for the naive app: as many connections as the others may have, all else as it comes."""

worker_class = "gevent"
worker_connections = 12_000
backlog = 4096
graceful_timeout = 1
control_socket_disable = True
