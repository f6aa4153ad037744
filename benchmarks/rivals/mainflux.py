"""The library, at its defaults."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from benchmarks.measure import Taken, measured
from mainflux_events import Commit, Event, GroupSubscriber, Publisher, Subscriber, Undelivered

TITLE = "mainflux-events"
SHARE = 1.0

COMMITS = {"every": Commit.every(), "each": Commit.each()}


async def publish(url: str, stream: str, events: Iterable[Event], idempotent: bool = False) -> Taken:
    async with Publisher(url, stream, idempotent=idempotent) as publisher:
        with measured() as taken:
            for event in events:
                await publisher.publish(event)
            with contextlib.suppress(Undelivered):
                await publisher.flush()
        taken.events = publisher.stats.acknowledged
    return taken


async def consume(
    url: str,
    stream: str,
    count: int,
    commit: str = "every",
    handler: str = "sync",
    by: str = "loop",
    group: bool = False,
) -> Taken:
    """By the loop over the events, or by `run` with a handler; either awaits nothing or one turn of the loop."""
    seen = Seen(count)
    with measured(count) as taken:
        async with (GroupSubscriber if group else Subscriber)(
            url, stream, "benchmark", start="earliest", commit=COMMITS[commit]
        ) as subscriber:
            if by == "run":
                task = asyncio.create_task(
                    subscriber.run(seen.look if handler == "sync" else seen.look_awaiting)
                )
                await seen.all.wait()
                task.cancel()
            elif handler == "sync":
                async for event in subscriber:
                    if seen.look(event):
                        break
            else:
                async for event in subscriber:
                    if await seen.look_awaiting(event):
                        break
    return taken


class Seen:
    """Reads of each event what a handler would: action, identity and time."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.all = asyncio.Event()

    def look(self, event: Event) -> bool:
        assert event.action.id
        assert event.identity.email
        assert event.occurred_at
        self.left -= 1
        if not self.left:
            self.all.set()
        return not self.left

    async def look_awaiting(self, event: Event) -> bool:
        await asyncio.sleep(0)
        return self.look(event)
