"""The way from a new connection to the application, under gunicorn."""

from .worker import StreamingWorker as StreamingWorker
