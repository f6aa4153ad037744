"""An aiohttp application that publishes what its handlers did, and keeps a list of what happened.

    python -m aiohttp.web -H 127.0.0.1 -P 8080 aiohttp_app:make_app

Its own environment: REDIS_URL, by default redis://localhost:6379/0.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler

from mainflux_events import (
    THINGS_STREAM,
    Event,
    Identity,
    Publisher,
    Subscriber,
    ThingCreated,
    ThingRemoved,
    acting_as,
)

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")

PUBLISHER = web.AppKey("publisher", Publisher)
HISTORY = web.AppKey("history", list[str])

routes = web.RouteTableDef()


async def publishing(app: web.Application) -> AsyncIterator[None]:
    # Leaving the context, when the application ends, delivers what is still buffered.
    async with Publisher(REDIS_URL, THINGS_STREAM) as app[PUBLISHER]:
        yield


async def consuming(app: web.Application) -> AsyncIterator[None]:
    def note(event: Event) -> None:
        app[HISTORY].append(f"{event.identity.id or 'somebody'}: {event.action.operation}")

    async with Subscriber(REDIS_URL, THINGS_STREAM, "history") as subscriber:
        running = asyncio.create_task(subscriber.run(note))
        yield
    await running  # closing the subscriber has ended it; an error of its own would be raised here


@web.middleware
async def acting(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A handler runs in the same task as its middlewares, so it publishes in this user's name.
    with acting_as(Identity(request.headers.get("X-User-Id", ""), request.headers.get("X-User-Email", ""))):
        return await handler(request)


@routes.post("/things")
async def create_thing(request: web.Request) -> web.Response:
    sent = await request.post()
    thing = ThingCreated(str(uuid4()), str(sent["group_id"]), str(sent["profile_id"]), str(sent["name"]))
    await request.app[PUBLISHER].publish(thing)
    return web.json_response({"id": thing.id}, status=201)


@routes.delete("/things/{id}")
async def remove_thing(request: web.Request) -> web.Response:
    await request.app[PUBLISHER].publish(ThingRemoved(request.match_info["id"]))
    return web.Response(status=204)


@routes.get("/history")
async def history(request: web.Request) -> web.Response:
    return web.json_response(request.app[HISTORY])


def make_app(_: list[str] | None = None) -> web.Application:
    app = web.Application(middlewares=[acting])
    app[HISTORY] = []
    app.cleanup_ctx.extend([publishing, consuming])
    app.add_routes(routes)
    return app
