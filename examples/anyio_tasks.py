"""Publisher and subscriber side by side in one task group.

    python examples/anyio_tasks.py

Its own environment: REDIS_URL, by default redis://localhost:6379/0.
"""

from __future__ import annotations

import os

import anyio

from mainflux_events import Event, Publisher, Subscriber, ThingCreated

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
STREAM = "example.things"
THINGS = 10


async def main() -> None:
    publisher = Publisher(REDIS_URL, STREAM)
    subscriber = Subscriber(REDIS_URL, STREAM, "printer")
    printed = anyio.Semaphore(0)

    async def show(event: Event) -> None:
        print(event.id, event.action)
        printed.release()

    async with anyio.create_task_group() as tasks:
        # `start` returns when each is at work, so nothing that is published from here on is missed.
        await tasks.start(publisher.run)
        await tasks.start(subscriber.run, show)

        for number in range(THINGS):
            await publisher.publish(ThingCreated(f"thing-{number}", "group", "profile", f"sensor {number}"))
        for _ in range(THINGS):
            await printed.acquire()

        # Cancelled, the publisher delivers what is buffered, and the subscriber stores what is handled.
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
