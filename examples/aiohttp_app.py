"""An aiohttp application that publishes what its handlers did, and keeps a list of what happened.

    python -m aiohttp.web -H 127.0.0.1 -P 8080 aiohttp_app:make_app

Its own environment: REDIS_URL, by default redis://localhost:6379/0.
"""

from __future__ import annotations

import os
from uuid import uuid4

from aiohttp import web

from mainflux_events import (
    THINGS_STREAM,
    Event,
    Identity,
    Publisher,
    Subscriber,
    ThingCreated,
    ThingRemoved,
)
from mainflux_events.contrib.aiohttp import PUBLISHER, Consume, events_context, identity_middleware

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")

HISTORY = web.AppKey("history", list[str])

routes = web.RouteTableDef()


def identify(request: web.Request) -> Identity:
    return Identity(request.headers.get("X-User-Id", ""), request.headers.get("X-User-Email", ""))


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
    app = web.Application(middlewares=[identity_middleware(identify)])
    app[HISTORY] = []

    def note(event: Event) -> None:
        app[HISTORY].append(f"{event.identity.id or 'somebody'}: {event.action.operation}")

    app.cleanup_ctx.append(
        events_context(
            lambda: Publisher(REDIS_URL, THINGS_STREAM),
            Consume(lambda: Subscriber(REDIS_URL, THINGS_STREAM, "history"), note),
        )
    )
    app.add_routes(routes)
    return app
