"""For FastAPI: the publisher as a dependency, on top of what `contrib.starlette` has.

app = FastAPI(lifespan=events_lifespan(lambda: Publisher(URL, THINGS_STREAM)))
app.add_middleware(IdentityMiddleware, identify=lambda request: Identity(request.headers.get("x-user-id", "")))

@app.post("/things")
async def create_thing(events: Events) -> None:
    await events.publish(ThingCreated(…))
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends
from starlette.requests import HTTPConnection

from ..publisher import Publisher
from . import starlette
from .starlette import Consume, IdentityMiddleware, events_lifespan, health_endpoint, running_of

__all__ = [
    "Consume",
    "Events",
    "IdentityMiddleware",
    "events_lifespan",
    "health_endpoint",
    "publisher_of",
    "running_of",
]


async def publisher_of(connection: HTTPConnection) -> Publisher:
    """The publisher of the application, as a dependency of endpoints and websockets.

    Raises:
        RuntimeError: the application was given none.
    """
    return starlette.publisher_of(connection)


Events: TypeAlias = Annotated[Publisher, Depends(publisher_of)]
