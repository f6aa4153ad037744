"""Consuming one class of ten, a tenth of the events, beside consuming all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, islice

from benchmarks.bench import STREAM, Bench
from benchmarks.events import an_event
from benchmarks.measure import Taken, measured
from benchmarks.parts import sized
from benchmarks.record import Record, Speed, over
from mainflux_events import (
    Action,
    Event,
    GroupRemoved,
    OrgCreated,
    OrgRemoved,
    ProfileCreated,
    ProfileRemoved,
    ProfileUpdated,
    Subscriber,
    ThingCreated,
    ThingGroupAndProfileUpdated,
    ThingRemoved,
    ThingUpdated,
)

LAST = "the last"
TITLES = {"all": "consuming all", "one": "actions=[ThingCreated], a tenth of them"}


async def run(bench: Bench, record: Record) -> None:
    count = record.effort.events
    await bench.clear()
    bench.run(Taken, __name__, "fill", url=bench.url, stream=STREAM, count=count)
    speeds = {name: Speed(title) for name, title in TITLES.items()}
    for _ in range(record.effort.rounds):
        for name, speed in speeds.items():
            await bench.clear_positions(STREAM)
            keywords = {"url": bench.url, "stream": STREAM, "count": count, "one": name == "one"}
            speed.takes.append(bench.run(Taken, __name__, "consume", **keywords))
    record.speeds["filters"] = list(speeds.values())
    record.measures.append(
        over(
            "consume, entries passed by one class of ten over all",
            speeds["one"].rates,
            speeds["all"].rates,
        )
    )


def _actions(of: ThingCreated) -> list[Action]:
    """The ten of the platform, with as much in each as it can hold."""
    id, group, profile, name, metadata = of.id, of.group_id, of.profile_id, of.name, of.metadata
    return [
        of,
        ThingUpdated(id, profile, name=name, metadata=metadata),
        ThingGroupAndProfileUpdated(id, profile, group_id=group),
        ThingRemoved(id),
        ProfileCreated(id, group, name=name, metadata=metadata),
        ProfileUpdated(id, name=name, metadata=metadata),
        ProfileRemoved(id),
        GroupRemoved(id),
        OrgCreated(id),
        OrgRemoved(id),
    ]


def mixed() -> Iterator[Event]:
    """Events without end, of the ten in an order without a pattern, and the same at each run."""
    chosen = random.Random(1)
    made: list[Event] = []
    for number in range(1000):
        event = an_event(number)
        assert isinstance(event.action, ThingCreated)
        made += [
            Event(action, event.identity, event.org_id, event.group_id) for action in _actions(event.action)
        ]
    chosen.shuffle(made)
    return cycle(made)


async def fill(url: str, stream: str, count: int) -> Taken:
    """So many events, the last of them one of the class that is asked for."""
    last = Event(ThingCreated(LAST, group_id="", profile_id=""))
    return await sized.fill(url, stream, [*islice(mixed(), count - 1), last])


async def consume(url: str, stream: str, count: int, one: bool) -> Taken:
    actions = [ThingCreated] if one else None
    with measured(count) as taken:
        async with Subscriber(url, stream, "benchmark", start="earliest", actions=actions) as subscriber:
            async for event in subscriber:
                if event.action.id == LAST:
                    break
        assert subscriber.stats.received == count
    return taken
