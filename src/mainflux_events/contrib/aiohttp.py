"""For aiohttp's server: a context for `cleanup_ctx`, typed keys, and a middleware that says who acts.

app = web.Application(middlewares=[identity_middleware(lambda request: Identity(request.headers["X-User-Id"]))])
app.cleanup_ctx.append(events_context(lambda: Publisher(URL, THINGS_STREAM)))

async def create_thing(request: web.Request) -> web.Response:
    await request.app[PUBLISHER].publish(ThingCreated(…))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..health import MAX_STALL
from ..publisher import Publisher
from .running import Consume, MakePublisher, Running, Who, acting_as_found, identity_of, running

__all__ = ["PUBLISHER", "RUNNING", "Consume", "events_context", "health_handler", "identity_middleware"]

PUBLISHER: Final = web.AppKey("mainflux_events_publisher", Publisher)
RUNNING: Final = web.AppKey("mainflux_events_running", Running)


def events_context(
    publisher: MakePublisher | None = None, *consume: Consume
) -> Callable[[web.Application], AsyncIterator[None]]:
    """For `cleanup_ctx`: starts a publisher and subscribers with the application, and closes them with it.

    Args:
        publisher: makes the publisher, which is then `app[PUBLISHER]`; None for none.
        consume: subscribers and their handlers.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with running(publisher, consume) as parts:
            app[RUNNING] = parts
            if parts.publisher is not None:
                app[PUBLISHER] = parts.publisher
            yield

    return context


def health_handler(*, max_stall: float = MAX_STALL) -> Handler:
    """A handler that tells how publisher and subscribers get on, as JSON: 200 where all do, else 503.

        app.router.add_get("/health", health_handler())

    Args:
        max_stall: as of their `health`, in seconds.
    """

    async def health(request: web.Request) -> web.StreamResponse:
        healthy, report = request.app[RUNNING].health(max_stall)
        return web.json_response(report, status=200 if healthy else 503)

    return health


def identity_middleware(identify: Callable[[web.Request], Who | Awaitable[Who]]) -> Middleware:
    """A middleware that publishes what a handler does in the name of the user whom `identify` gives.

    Args:
        identify: from the request to the identity, or None; a function or a coroutine function.
    """

    @web.middleware
    async def acting(request: web.Request, handler: Handler) -> web.StreamResponse:
        identity = await identity_of(identify, request)
        with acting_as_found(identity):
            return await handler(request)

    return acting
