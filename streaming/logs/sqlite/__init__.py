"""``sqlite:``, the log in a file that the processes of one machine share."""

from .log import SqliteLog as SqliteLog
