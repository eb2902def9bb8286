"""A WebSocket client: `ws_client.py URL TOKEN [CA]`."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


async def main(url, token, ca=None):
    tls = ssl.create_default_context(cafile=ca) if ca else None
    try:
        await connect(url, ssl=tls)
        raise AssertionError("let in without a token")
    except InvalidStatus as refused:
        assert refused.response.status_code == 401, refused
        assert refused.response.body == b"authentication failure: no bearer token found", refused.response.body
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(url, ssl=tls, additional_headers=headers, max_size=1 << 24) as socket:
        for message in ["hello", b"\0\xff", "", "x" * 100_000, b"y" * (4 << 20)]:
            await socket.send(message)
            assert await asyncio.wait_for(socket.recv(), 10) == message
        await asyncio.wait_for(await socket.ping(), 10)
        await asyncio.sleep(0.5)  # the server's own pings come meanwhile
        await socket.close(4000, "enough")
        assert socket.close_code == 4000, socket.close_code
    print("ok")


asyncio.run(main(*sys.argv[1:]))
