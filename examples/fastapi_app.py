"""A FastAPI application that publishes what its endpoints did.

    uvicorn fastapi_app:app --app-dir examples

Its own environment: REDIS_URL, by default redis://localhost:6379/0.
"""

from __future__ import annotations

import os
from uuid import uuid4

from fastapi import FastAPI, HTTPException
from starlette.requests import HTTPConnection

from mainflux_events import (
    THINGS_STREAM,
    Identity,
    Publisher,
    ThingCreated,
    ThingRemoved,
    ThingUpdated,
    Undelivered,
)
from mainflux_events.contrib.fastapi import Events, IdentityMiddleware, events_lifespan

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")


def identify(request: HTTPConnection) -> Identity:
    return Identity(request.headers.get("x-user-id", ""), request.headers.get("x-user-email", ""))


# One publisher for the whole application. When that ends, what is still buffered is delivered.
app = FastAPI(lifespan=events_lifespan(lambda: Publisher(REDIS_URL, THINGS_STREAM)))
app.add_middleware(IdentityMiddleware, identify=identify)


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
