"""``redis:``, the log that processes on many machines share."""

from __future__ import annotations

from .log import RedisLog as RedisLog
