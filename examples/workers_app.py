"""A FastAPI application of several workers, of which one handles the events, whatever becomes of the others.

    uvicorn workers_app:app --app-dir examples --workers 4

Its own environment: REDIS_URL, by default redis://localhost:6379/0.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI, Request
from redis.asyncio import Redis

from mainflux_events import THINGS_STREAM, Event, Publisher, Subscriber, ThingRemoved

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
TRAIL = "example:trail"


class State(TypedDict):
    redis: Redis
    publisher: Publisher
    subscriber: Subscriber


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[State]:
    async def note(event: Event) -> None:
        # If this worker is killed before the cursor is stored, the next one gets this event again, so a handler must
        # bear that. Here the trail has the same line twice.
        await redis.rpush(TRAIL, f"{event.id} {event.action.operation} {os.getpid()}")

    async with Redis.from_url(REDIS_URL) as redis, Publisher(REDIS_URL, THINGS_STREAM) as publisher:
        # Every worker has such a subscriber. The first one reads; the others wait for their turn.
        async with Subscriber(REDIS_URL, THINGS_STREAM, "trail", exclusive="standby") as subscriber:
            running = asyncio.create_task(subscriber.run(note))
            yield {"redis": redis, "publisher": publisher, "subscriber": subscriber}
        await running  # closing the subscriber has ended it, and given the turn to another worker


app = FastAPI(lifespan=lifespan)


@app.delete("/things/{thing_id}", status_code=204)
async def remove_thing(request: Request, thing_id: str) -> None:
    await request.state.publisher.publish(ThingRemoved(id=thing_id))


@app.get("/trail")
async def trail(request: Request) -> list[str]:
    return [line.decode() for line in await request.state.redis.lrange(TRAIL, -100, -1)]


@app.get("/health")
async def health(request: Request) -> dict[str, int | bool]:
    return {"worker": os.getpid(), "reads": request.state.subscriber.active}
