"""For Litestar: a lifespan, the publisher as a dependency, and a middleware that says who acts.

app = Litestar(
    [create_thing],
    lifespan=[events_lifespan(lambda: Publisher(URL, THINGS_STREAM))],
    dependencies={"events": Provide(publisher_of)},
    middleware=[IdentityMiddleware(lambda request: Identity(request.headers.get("x-user-id", "")))],
)

@post("/things")
async def create_thing(events: Events) -> None:
    await events.publish(ThingCreated(…))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from litestar import Litestar, Response, get
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from ..health import MAX_STALL
from ..publisher import Publisher
from .running import Consume, MakePublisher, Running, Who, acting_as_found, identity_of, publisher_in, running

__all__ = [
    "Consume",
    "Events",
    "IdentityMiddleware",
    "events_lifespan",
    "health_handler",
    "publisher_of",
    "running_of",
]

# Where in the state of the application it is.
STATE = "mainflux_events"

Events: TypeAlias = NamedDependency[Publisher]
Identify: TypeAlias = "Callable[[ASGIConnection[Any, Any, Any, Any]], Who | Awaitable[Who]]"


def events_lifespan(
    publisher: MakePublisher | None = None, *consume: Consume
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """For `lifespan`: starts a publisher and subscribers with the application, and closes them with it.

    Args:
        publisher: makes the publisher; None for none.
        consume: subscribers and their handlers.
    """

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with running(publisher, consume) as parts:
            app.state[STATE] = parts
            yield

    return lifespan


def running_of(state: State) -> Running:
    """What the application of this state has running.

    Raises:
        RuntimeError: the application was not given `events_lifespan`.
    """
    parts = state.get(STATE)
    if not isinstance(parts, Running):
        raise RuntimeError("there is no publisher: give the application lifespan=[events_lifespan(…)]")
    return parts


async def publisher_of(state: State) -> Publisher:
    """The publisher of the application of this state, as a dependency of handlers.

    Raises:
        RuntimeError: it has none.
    """
    return publisher_in(running_of(state))


def health_handler(path: str = "/health", *, max_stall: float = MAX_STALL) -> HTTPRouteHandler:
    """A route that tells how publisher and subscribers get on, as JSON: 200 where all do, else 503.

        Litestar([create_thing, health_handler()], …)

    Args:
        path: of the route.
        max_stall: as of their `health`, in seconds.
    """

    @get(path)
    async def health(state: State) -> Response[dict[str, Any]]:
        healthy, report = running_of(state).health(max_stall)
        return Response(report, status_code=200 if healthy else 503)

    return health


class IdentityMiddleware(ASGIMiddleware):
    """Publishes what happens in a request or a websocket in the name of the user whom `identify` gives.

    What it sets is a context variable, which is seen in the handler, in the thread of a plain `def` handler too.

    Args:
        identify: from the request to the identity, or None; a function or a coroutine function.
    """

    scopes: tuple[ScopeType, ...] = (ScopeType.HTTP, ScopeType.WEBSOCKET)

    def __init__(self, identify: Identify) -> None:
        self._identify = identify

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Serve one request."""
        identity = await identity_of(self._identify, ASGIConnection(scope, receive, send))
        with acting_as_found(identity):
            await next_app(scope, receive, send)
