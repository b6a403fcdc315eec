"""A WebSocket echo over HTTP/2 (RFC 8441): hypercorn, from PyPI."""

import asyncio
import pathlib
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config


async def echo(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    assert scope["type"] == "websocket", scope
    headers = dict(scope["headers"])
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "echo"})
    peer = headers.get(b"x-mesh-peer", b"nobody").decode()
    await send({"type": "websocket.send", "text": f"{scope['http_version']} {peer}"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


async def main():
    config = Config()
    config.bind = [f"0.0.0.0:{sys.argv[1]}"]
    config.websocket_max_message_size = 64 << 20
    config.accesslog = config.errorlog = None
    listening = asyncio.get_running_loop().create_future()

    async def announce():
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
                writer.close()
                pathlib.Path(sys.argv[2]).touch()
                return
            except OSError:
                await asyncio.sleep(0.05)

    telling = asyncio.create_task(announce())
    await serve(echo, config, shutdown_trigger=lambda: listening)
    await telling


asyncio.run(main())
