"""ASGI applications under uvicorn, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from mainflux_events import Event, Subscriber
from mainflux_events.testing import RedisServer
from support import wait_until

STREAM = "contrib"


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, which is served until the end."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    task = asyncio.create_task(server._serve())
    await wait_until(lambda: server.started or task.done())
    if task.done():
        await task
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await task


async def published(server: RedisServer) -> list[Event]:
    """All that the applications have published."""
    async with Subscriber(server.url, STREAM, "published", start="earliest") as subscriber:
        lag = await subscriber.lag()
        return [await anext(subscriber) for _ in range(lag[STREAM].entries or 0)]


async def requested(app: Any, users: int, times: int = 1) -> None:
    """Serve the application, and have so many users each remove the thing of their number, all at the same time.

    Args:
        app: the application.
        users: how many.
        times: how often the application is started, and all of that done.
    """
    for _ in range(times):
        async with serving(app) as client:
            requests = (
                client.delete(f"/things/t{number}", headers={"X-User-Id": f"u{number}"})
                for number in range(users)
            )
            assert all(response.is_success for response in await asyncio.gather(*requests))
