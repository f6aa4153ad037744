"""Events of other sizes and shapes than the one that the rivals share."""

from __future__ import annotations

import types
from collections.abc import Iterable
from itertools import islice, repeat

from benchmarks.events import an_event
from benchmarks.measure import Taken, measured
from mainflux_events import Action, Event, Identity, Publisher, ThingCreated

USER = Identity(id="1", email="user@example.com")


def of_size(size: int) -> Event:
    """An event that takes about so many bytes, by its metadata."""
    action = ThingCreated(id="1", group_id="2", profile_id="3", metadata={"pad": "x" * max(0, size - 90)})
    return Event(action, identity=USER)


def wide_class(number: int) -> type[Action]:
    """An action of so many fields, all text."""

    def body(namespace: dict[str, object]) -> None:
        namespace["__module__"] = __name__
        namespace["__annotations__"] = {f"field_{place}": str for place in range(number)}

    return types.new_class(f"Wide{number}", (Action,), {"tag": f"benchmark.wide{number}"}, body)


def of_fields(number: int) -> Event:
    """An event of an action of so many fields, twenty characters each."""
    return Event(wide_class(number)(*(f"value {place:14}" for place in range(number))), identity=USER)


async def fill_sized(url: str, stream: str, count: int, size: int = 0, fields: int = 0) -> Taken:
    """Publish one and the same event so often, and keep all of them."""
    event = of_size(size) if size else of_fields(fields) if fields else an_event(1)
    return await fill(url, stream, islice(repeat(event), count))


async def fill(url: str, stream: str, events: Iterable[Event]) -> Taken:
    # Where events are large, whoever makes them is quicker than any server: let the buffer slow it down.
    async with Publisher(url, stream, max_len=None, overflow="wait") as publisher:
        with measured() as taken:
            for event in events:
                await publisher.publish(event)
            await publisher.flush()
        taken.events = publisher.stats.acknowledged
    return taken
