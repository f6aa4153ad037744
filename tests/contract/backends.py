"""What the contract is held against. Another kind of subscriber, or of server, is one more line in `BACKENDS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

from mainflux_events import GroupSubscriber, PartitionedSubscriber, Publisher, Subscriber
from mainflux_events.partitions import partition_of, partition_streams
from mainflux_events.testing import memory_server, redis_server

STREAM = "mainflux.things"

# Seconds in which a consumer that was killed loses what it had; many times what a machine under load stalls for.
CLAIM_AFTER = 1.0


@asynccontextmanager
async def redis() -> AsyncIterator[str]:
    """The URL of a Redis of the test's own, which keeps what it is given."""
    async with redis_server() as server:
        yield server.url


@asynccontextmanager
async def memory() -> AsyncIterator[str]:
    """The URL of a server in memory."""
    with memory_server() as server:
        yield server.url


@contextmanager
def short_leases() -> Iterator[None]:
    """Leases of a consumer that was killed last as long as what it had in a group."""
    with (
        patch("mainflux_events.lease.TTL", CLAIM_AFTER),
        patch("mainflux_events.desk.RENEW_EVERY", CLAIM_AFTER / 5),
        patch("mainflux_events.desk.ASK_EVERY", CLAIM_AFTER / 10),
    ):
        yield


@dataclass(frozen=True)
class Backend:
    """One kind of subscriber, and where it finds its events.

    Attributes:
        name: as the tests' names have it.
        server: what its URL leads to, while the context lasts.
        subscriber: makes one: a URL, a stream, a name, and settings.
        publisher: makes one: a URL, a stream.
        competing: whether those of one name share the events out among them.
        counts_crashes: whether it gives up an event that kills each process which handles it.
        several: whether one of them reads several streams.
        place: the key of the stream that events of this one are in.
        resubscribes: how many of them one after the other show that nothing is left behind.
        processes: whether several processes can share its server, so that one of them can be killed.
    """

    name: str
    server: Callable[[], AbstractAsyncContextManager[str]]
    subscriber: Callable[..., Any]
    publisher: Callable[[str, str], Publisher] = Publisher
    competing: bool = False
    counts_crashes: bool = False
    several: bool = True
    place: Callable[[str], str] = str
    resubscribes: int = 1000
    processes: bool = True


_GROUP = partial(GroupSubscriber, claim_after=CLAIM_AFTER)

# All in one partition, for the order of which there is a promise; the others are empty.
_PARTITIONS = 3
_KEY = "all"
_PARTITIONED = partial(PartitionedSubscriber, partitions=_PARTITIONS)
_TO_ONE_PARTITION = partial(Publisher, partitions=_PARTITIONS, key=lambda _: _KEY)


def _place(stream: str) -> str:
    return partition_streams(stream, _PARTITIONS)[partition_of(_KEY, _PARTITIONS)]


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("cursor", redis, Subscriber),
        Backend("group", redis, _GROUP, competing=True, counts_crashes=True),
        Backend(
            "partitioned",
            redis,
            _PARTITIONED,
            _TO_ONE_PARTITION,
            several=False,
            place=_place,
            resubscribes=100,  # each makes several times as many connections
        ),
        Backend("memory cursor", memory, Subscriber, processes=False),
        Backend("memory group", memory, _GROUP, competing=True, counts_crashes=True, processes=False),
    )
}

# Those whose consumers are killed in tests.
MORTAL = [name for name, backend in BACKENDS.items() if backend.processes]
