"""The library ``websockets`` on asyncio: chat by its own ``broadcast``, and echo."""

import asyncio
import os

from websockets.asyncio.server import ServerConnection, broadcast, serve

room: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for text in connection:
        await connection.send(f"You said: {text!s}")


async def chat(connection: ServerConnection) -> None:
    await connection.send("Welcome to the WebSocket server!")
    room.add(connection)
    try:
        async for text in connection:
            broadcast((c for c in room if c is not connection), f"Other client said: {text!s}")
            await connection.send(f"You said: {text!s}")
    finally:
        room.discard(connection)


async def handle(connection: ServerConnection) -> None:
    assert connection.request
    await (echo if connection.request.path == "/echo" else chat)(connection)


async def main() -> None:
    port = int(os.environ["PORT"])
    async with serve(handle, "127.0.0.1", port, backlog=4096) as server:
        await server.serve_forever()


asyncio.run(main())
