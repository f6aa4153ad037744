"""For Starlette: a lifespan, and a middleware that says who acts. `contrib.fastapi` adds what FastAPI can do more.

app = Starlette(
    lifespan=events_lifespan(lambda: Publisher(URL, THINGS_STREAM)),
    middleware=[Middleware(IdentityMiddleware, identify=lambda request: Identity(request.headers["x-user-id"]))],
)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..health import MAX_STALL
from ..publisher import Publisher
from .running import Consume, MakePublisher, Running, Who, acting_as_found, identity_of, publisher_in, running

__all__ = [
    "Consume",
    "Identify",
    "IdentityMiddleware",
    "events_lifespan",
    "health_endpoint",
    "publisher_of",
    "running_of",
]

# Where in the state of the lifespan, and so of each request, it is.
STATE = "mainflux_events"

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
Identify: TypeAlias = "Callable[[HTTPConnection], Who | Awaitable[Who]]"


def events_lifespan(
    publisher: MakePublisher | None = None, *consume: Consume, inner: Lifespan | None = None
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """A lifespan that starts a publisher and subscribers with the application, and closes them with it.

    Args:
        publisher: makes the publisher; None for none.
        consume: subscribers and their handlers.
        inner: a lifespan of the application's own, which begins after and ends before; its state is kept.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with running(publisher, consume) as parts:
            if inner is None:
                yield {STATE: parts}
                return
            async with inner(app) as state:
                yield {**(state or {}), STATE: parts}

    return lifespan


def running_of(connection: HTTPConnection) -> Running:
    """What the application of this request or websocket has running.

    Raises:
        RuntimeError: the application was not given `events_lifespan`.
    """
    parts = getattr(connection.state, STATE, None)
    if not isinstance(parts, Running):
        raise RuntimeError("there is no publisher: give the application lifespan=events_lifespan(…)")
    return parts


def publisher_of(connection: HTTPConnection) -> Publisher:
    """The publisher of the application of this request or websocket.

    Raises:
        RuntimeError: it has none.
    """
    return publisher_in(running_of(connection))


def health_endpoint(
    *, max_stall: float = MAX_STALL
) -> Callable[[Request], Coroutine[Any, Any, JSONResponse]]:
    """An endpoint that tells how publisher and subscribers get on, as JSON: 200 where all do, else 503.

        Route("/health", health_endpoint())        # Starlette
        app.add_route("/health", health_endpoint())  # FastAPI

    Args:
        max_stall: as of their `health`, in seconds.
    """

    async def health(request: Request) -> JSONResponse:
        healthy, report = running_of(request).health(max_stall)
        return JSONResponse(report, 200 if healthy else 503)

    return health


class IdentityMiddleware:
    """Publishes what happens in a request or a websocket in the name of the user whom `identify` gives.

    It is plain ASGI, so it runs in the task of the endpoint, and sets a context variable that is seen there, in the
    thread of a plain `def` endpoint too.

    Args:
        app: the application behind it.
        identify: from the request to the identity, or None; a function or a coroutine function.
    """

    def __init__(self, app: ASGIApp, identify: Identify) -> None:
        self._app = app
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        identity = await identity_of(self._identify, HTTPConnection(scope))
        with acting_as_found(identity):
            await self._app(scope, receive, send)
