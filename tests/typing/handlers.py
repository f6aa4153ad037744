"""Handlers of one event and of several, for type checkers only: nothing here is run."""

from __future__ import annotations

import anyio

from mainflux_events import Event, GroupSubscriber, Retry, Subscriber

URL = "redis://localhost"


async def handle(event: Event) -> None: ...


def handle_at_once(event: Event) -> None: ...


async def handle_all(events: list[Event]) -> None: ...


async def run(size: int) -> None:
    subscriber = Subscriber(URL, "things", "audit")
    await subscriber.run(handle, retry=Retry(3), timeout=1, on_failure="raise")
    await subscriber.run(handle_at_once, concurrency=10)
    await subscriber.run(handle, concurrency=10, key=lambda event: event.org_id)
    await subscriber.run(handle_all, batch=100, max_wait=0.5)
    await subscriber.run(handle_all, batch=size, concurrency=2)
    await GroupSubscriber(URL, "things", "cleaners").run(handle_all, batch=100)
    async with anyio.create_task_group() as tasks:
        await tasks.start(subscriber.run, handle)

    await subscriber.run(handle_all)  # type: ignore[arg-type]
    await subscriber.run(handle, batch=100)  # type: ignore[arg-type]
    await subscriber.run(handle, key="id")  # type: ignore[call-overload]
