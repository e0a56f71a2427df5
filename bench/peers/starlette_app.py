"""An answer in pieces with Starlette and sse-starlette: in the request, gone with it."""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route


async def pieces(count: int, pause: float) -> AsyncIterator[dict[str, str]]:
    for n in range(count):
        yield {"data": f"piece {n} "}
        await asyncio.sleep(pause)


async def ask(request: Request) -> EventSourceResponse:
    query = request.query_params
    return EventSourceResponse(pieces(int(query["count"]), float(query["pause"])))


app = Starlette(routes=[Route("/ask", ask, methods=["POST"])])
