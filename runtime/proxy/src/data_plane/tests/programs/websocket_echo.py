"""Sends each message back in several frames, and says where it listens."""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    await connection.send("peer " + connection.request.headers.get("x-mesh-peer", "nobody"))
    try:
        await send_back(connection)
    except ConnectionClosed as closed:
        # Closed with a code of its own, which is no failure.
        assert closed.rcvd.code == 4001, closed


async def send_back(connection):
    await (await connection.ping())
    async for message in connection:
        third = max(1, len(message) // 3)
        parts = [message[at : at + third] for at in range(0, len(message), third)] or [message]

        async def pieces():
            for part in parts:
                yield part

        await connection.send(pieces())


async def main():
    async with serve(
        echo, "127.0.0.1", 0, max_size=2**26, subprotocols=["chat"], compression=sys.argv[1]
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
