"""Talks to an echo by a proxy: short, fragmented, large and empty messages, pings, and a close with a reason."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def main():
    address, path, expected = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    talking = connect(
        "ws://reviews" + path,
        host=host,
        port=int(port),
        max_size=2**26,
        subprotocols=["chat"],
        proxy=None,
    )
    try:
        async with talking as connection:
            assert connection.subprotocol == "chat", connection.subprotocol
            peer = await connection.recv()
            assert peer == "peer " + expected, peer
            large = bytes(at % 251 for at in range(17_000_000))
            for message in ["hello", "grün", b"\0\xff", b"", large, "x" * 70_000]:
                await connection.send(message)
                answer = await connection.recv()
                assert answer == message, (len(answer), len(message))

            async def pieces():
                for _ in range(100):
                    yield "piece "
                    await asyncio.sleep(0)

            await connection.send(pieces())
            assert await connection.recv() == "piece " * 100
            await (await connection.ping(b"are you there"))
            await connection.close(4001, "enough")
            try:
                await connection.recv()
            except ConnectionClosed as closed:
                assert closed.rcvd.code == 4001, closed
                assert closed.rcvd.reason == "enough", closed
        print("ok")
    except InvalidStatus as refused:
        print(refused.response.status_code, refused.response.headers.get("x-mesh-reason"))


asyncio.run(main())
