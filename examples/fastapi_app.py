"""A FastAPI application that publishes what its endpoints did.

    uvicorn fastapi_app:app --app-dir examples

Its own environment: REDIS_URL, by default redis://localhost:6379/0.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict
from uuid import uuid4

from fastapi import Depends, FastAPI, Header, HTTPException, Request

from mainflux_events import (
    THINGS_STREAM,
    Identity,
    Publisher,
    ThingCreated,
    ThingRemoved,
    ThingUpdated,
    Undelivered,
    acting_as,
)

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")


class State(TypedDict):
    publisher: Publisher


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[State]:
    # One publisher for the whole application. Leaving the context delivers what is still buffered.
    async with Publisher(REDIS_URL, THINGS_STREAM) as publisher:
        yield {"publisher": publisher}


async def publisher_of(request: Request) -> Publisher:
    publisher: Publisher = request.state.publisher
    return publisher


async def acting(
    x_user_id: Annotated[str, Header()] = "", x_user_email: Annotated[str, Header()] = ""
) -> AsyncIterator[None]:
    # The identity is a context variable, so this dependency has to be `async`: such a one runs in the task of the
    # request, as an `async def` endpoint does, and a plain `def` endpoint's thread gets a copy of that task's context.
    # A plain `def` dependency would run in threads of its own: the endpoint would not see what it sets, and what is
    # set in one thread cannot be taken back in another (`ValueError: … was created in a different Context`).
    with acting_as(Identity(x_user_id, x_user_email)):
        yield


app = FastAPI(lifespan=lifespan, dependencies=[Depends(acting)])
Events = Annotated[Publisher, Depends(publisher_of)]


@app.post("/things", status_code=201)
async def create_thing(events: Events, group_id: str, profile_id: str, name: str = "") -> dict[str, str]:
    thing = ThingCreated(id=str(uuid4()), group_id=group_id, profile_id=profile_id, name=name)
    await events.publish(thing)  # accepted into memory: the response does not wait for Redis
    return {"id": thing.id}


@app.put("/things/{thing_id}", status_code=204)
def update_thing(events: Events, thing_id: str, profile_id: str, name: str = "") -> None:
    # A plain `def` endpoint runs in a thread, where only this one may be called.
    events.publish_threadsafe(ThingUpdated(id=thing_id, profile_id=profile_id, name=name))


@app.delete("/things/{thing_id}")
async def remove_thing(events: Events, thing_id: str) -> dict[str, str]:
    # This endpoint must know: it answers when Redis has acknowledged the event.
    try:
        return {"entry": await events.send(ThingRemoved(id=thing_id))}
    except Undelivered as error:
        raise HTTPException(503, "the event could not be stored") from error
