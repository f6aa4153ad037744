"""For Prometheus: a collector that looks at publishers and subscribers when it is scraped, and not before.

events = EventsCollector()
events.add(publisher)
events.add(subscriber, lag=True)

Everything is read from `stats`, `health()` and, where it is asked for, `lag()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import Final, TypeAlias

import msgspec
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..cursor import Lag
from ..errors import ConfigError, EventsError
from ..group import GroupSubscriber
from ..health import MAX_STALL
from ..policies import positive
from ..publisher import Publisher
from ..stats import PublisherStats, SubscriberStats
from ..subscriber import Subscriber

__all__ = ["EventsCollector"]

Consuming: TypeAlias = Subscriber | GroupSubscriber
Part: TypeAlias = Publisher | Consuming

PUBLISHER: Final = "mainflux_events_publisher"
SUBSCRIBER: Final = "mainflux_events_subscriber"

# What is a count that may go down again; all other numbers of `stats` only grow.
GAUGES: Final = frozenset({"buffered", "in_flight"})

HELP: Final = {
    PUBLISHER: {
        "accepted": "Events taken into the buffer, or dropped instead.",
        "acknowledged": "Events that Redis has said it appended.",
        "dropped": "Events given up because the buffer was full.",
        "undelivered": "Events given up for another reason.",
        "buffered": "Events that wait for their turn.",
        "in_flight": "Events that are sent and not acknowledged.",
        "retries": "Attempts that failed and were made again.",
        "reconnects": "Connections made after the first one.",
        "epochs": "Sequences that an idempotent publisher had to begin anew.",
        "healthy": "1 where the publisher gets on, else 0.",
        "oldest_unacknowledged_seconds": "Age of the oldest event that is not acknowledged, 0 where there is none.",
        "last_acknowledged_timestamp_seconds": "When Redis last acknowledged something, 0 where it never did.",
    },
    SUBSCRIBER: {
        "received": "Entries looked at.",
        "handled": "Entries whose handler returned.",
        "skipped": "Entries passed over.",
        "retried": "Further calls of a handler for the same entry.",
        "dead_lettered": "Entries that are in the dead letters.",
        "given_up": "Entries given up without dead letters.",
        "gaps": "Times that entries were removed before they were read.",
        "missed": "Entries removed before they were read, at most.",
        "resets": "Times that a stream was found to be another one.",
        "healthy": "1 where the subscriber gets on, else 0.",
        "standby": "1 where the subscriber waits for another one of its name to end, else 0.",
        "in_hand_seconds": "Seconds that the oldest event has been in hand, 0 where none is.",
        "last_read_timestamp_seconds": "When Redis last answered a read, 0 where it never did.",
        "lag_entries": "Entries of a stream that are not handled.",
        "lag_seconds": "Time between the last handled entry of a stream and its last one.",
    },
}

# Seconds that asking for the lag may take.
LAG_BOUND: Final = 5.0


class EventsCollector(Collector):
    """Reads counts and states of publishers and subscribers at each scrape.

    Args:
        registry: where it is registered; None for nowhere.
        max_stall: as of `health`, in seconds.
        lag_every: how many seconds a lag is good for, before the next scrape has it asked for again.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = REGISTRY,
        *,
        max_stall: float = MAX_STALL,
        lag_every: float = 10.0,
    ) -> None:
        positive("max_stall", max_stall)
        positive("lag_every", lag_every, zero=True)
        self._max_stall = max_stall
        self._lag_every = lag_every
        self._parts: dict[Part, dict[str, str]] = {}
        self._lags: dict[Consuming, _LagWatch] = {}
        if registry is not None:
            registry.register(self)

    def add(self, part: Part, *, lag: bool = False, **labels: str) -> None:
        """Have it read at each scrape, until `remove`.

        Args:
            part: a publisher or a subscriber, started or not.
            lag: whether a subscriber's lag is asked for, which takes the server's time. That is done in the background
                when somebody scrapes, and what is shown was found after the scrape before. Then `add` has to be called
                on the subscriber's event loop.
            labels: more labels. Those that there are anyway are `stream`, and `subscriber` for the name or the group.

        Raises:
            ConfigError: something else has these labels; or it has no lag.
        """
        if isinstance(part, Publisher):
            own = {"stream": part.stream}
        else:
            name = part.name if isinstance(part, Subscriber) else part.group
            own = {"subscriber": name, "stream": ",".join(part.streams)}
        found = {**labels, **own}
        if any(
            other is part or (_side(other), has) == (_side(part), found) for other, has in self._parts.items()
        ):
            raise ConfigError(
                f"a {_side(part)} with the labels {found} is there already; tell them apart: add(…, role='…')"
            )
        if lag:
            if isinstance(part, Publisher):
                raise ConfigError("lag: a publisher has none")
            self._lags[part] = _LagWatch(part, self._lag_every)
        self._parts[part] = found

    def remove(self, part: Part) -> None:
        """Read it no more."""
        self._parts.pop(part, None)
        if watch := self._lags.pop(part, None) if not isinstance(part, Publisher) else None:
            watch.end()

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        parts = dict(self._parts)
        publishers = {part: labels for part, labels in parts.items() if isinstance(part, Publisher)}
        subscribers = {part: labels for part, labels in parts.items() if not isinstance(part, Publisher)}
        counts = PublisherStats.__struct_fields__
        samples = [(labels, self._of_publisher(part)) for part, labels in publishers.items()]
        yield from _families(PUBLISHER, counts, samples)
        counts = SubscriberStats.__struct_fields__
        of_subscribers = [(labels, self._of_subscriber(part)) for part, labels in subscribers.items()]
        for part, labels in subscribers.items():
            lags = self._lags[part].look() if part in self._lags else {}
            of_subscribers += [({**labels, "stream": stream}, _of_lag(lag)) for stream, lag in lags.items()]
        yield from _families(SUBSCRIBER, counts, of_subscribers)

    def _of_publisher(self, publisher: Publisher) -> dict[str, float]:
        health = publisher.health(max_stall=self._max_stall)
        last = health.last_acknowledged
        return {
            **msgspec.structs.asdict(publisher.stats),
            "healthy": health.healthy,
            "oldest_unacknowledged_seconds": health.oldest_unacknowledged or 0.0,
            "last_acknowledged_timestamp_seconds": last.timestamp() if last is not None else 0.0,
        }

    def _of_subscriber(self, subscriber: Consuming) -> dict[str, float]:
        health = subscriber.health(max_stall=self._max_stall)
        return {
            **msgspec.structs.asdict(subscriber.stats),
            "healthy": health.healthy,
            "standby": health.standby,
            "in_hand_seconds": health.in_hand or 0.0,
            "last_read_timestamp_seconds": health.last_read.timestamp()
            if health.last_read is not None
            else 0.0,
        }


def _side(part: Part) -> str:
    return "publisher" if isinstance(part, Publisher) else "subscriber"


def _of_lag(lag: Lag) -> dict[str, float]:
    seconds = {"lag_seconds": lag.seconds}
    return seconds if lag.entries is None else {"lag_entries": lag.entries, **seconds}


def _families(
    prefix: str, counts: tuple[str, ...], samples: list[tuple[dict[str, str], dict[str, float]]]
) -> Iterator[Metric]:
    """The metrics of one side. Whoever has not got a label has it empty."""
    names = sorted({name for labels, _ in samples for name in labels})
    for metric, text in HELP[prefix].items():
        kind = CounterMetricFamily if metric in counts and metric not in GAUGES else GaugeMetricFamily
        family = kind(f"{prefix}_{metric}", text, labels=names)
        for labels, values in samples:
            if metric in values:
                family.add_metric([labels.get(name, "") for name in names], values[metric])
        yield family


class _LagWatch:
    """The lag of one subscriber: asked for in the background when somebody looks, one question at a time."""

    def __init__(self, subscriber: Consuming, every: float) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError("lag: add has to be called on the subscriber's event loop") from None
        self._subscriber = subscriber
        self._every = every
        self._found: Mapping[str, Lag] = {}
        self._due = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._ended = False

    def look(self) -> Mapping[str, Lag]:
        """What was found last, from any thread; and have it asked for again, where that is old."""
        if monotonic() >= self._due and not self._loop.is_closed():
            self._due = monotonic() + self._every
            self._loop.call_soon_threadsafe(self._ask)
        return self._found

    def end(self) -> None:
        """Ask no more. On the event loop."""
        self._ended = True
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self) -> None:
        if not self._ended and (self._asking is None or self._asking.done()):
            name = "mainflux_events lag for Prometheus"
            self._asking = self._loop.create_task(self._find_out(), name=name)

    async def _find_out(self) -> None:
        found: Mapping[str, Lag] = {}
        try:
            async with asyncio.timeout(LAG_BOUND):
                found = await self._subscriber.lag()
        except (EventsError, TimeoutError):
            pass  # what is not known is not shown: an old lag would look like a good one
        finally:
            self._found = found
