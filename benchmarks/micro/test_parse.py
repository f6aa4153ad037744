"""The replies of the server, as a channel takes them."""

from __future__ import annotations

import asyncio
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.bench import STREAM
from benchmarks.events import MAX_LEN, events
from mainflux_events import wire
from mainflux_events.link import Channel
from mainflux_events.resp import Append, bulk

COUNT = 1000
CHUNK = 65536  # bytes, about what a socket gives at a time


class Transport(asyncio.Transport):
    """Takes everything, and goes nowhere."""

    def write(self, data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return asyncio.Protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass


class Connection:
    """As much of a connection of redis-py as a channel takes over."""

    def __init__(self) -> None:
        self.transport = Transport()
        self._writer = self


def parsed(benchmark: BenchmarkFixture, replies: bytes, wanted: int) -> list[Any]:
    chunks = [replies[start : start + CHUNK] for start in range(0, len(replies), CHUNK)]

    async def run() -> list[Any]:
        channel = Channel(Connection(), 60.0)

        def receive() -> list[Any]:
            exchange = channel.exchange(b"", wanted)
            exchange.send(None)  # as the event loop would, up to where it waits for the replies
            for chunk in chunks:
                channel.data_received(chunk)
            try:
                exchange.send(None)
            except StopIteration as answered:
                return answered.value
            raise AssertionError("the replies are not complete")

        return benchmark(receive)

    return asyncio.run(run())


def test_replies_to_a_batch(benchmark: BenchmarkFixture) -> None:
    ids = b"".join(bulk(b"1700000000000-%d" % number) for number in range(COUNT))
    replies = b"+OK\r\n" + b"+QUEUED\r\n" * COUNT + b"*%d\r\n%b" % (COUNT, ids)
    assert len(parsed(benchmark, replies, COUNT + 2)[-1]) == COUNT


def test_entries_of_a_read(benchmark: BenchmarkFixture) -> None:
    append = Append(STREAM, MAX_LEN)
    entries = []
    for number, event in enumerate(events(COUNT)):
        fields = append.fields_of(wire.encode(event, append))
        packed = b"".join(map(bulk, fields))
        entries.append(b"*2\r\n%b*%d\r\n%b" % (bulk(b"1700000000000-%d" % number), len(fields), packed))
    reply = b"*1\r\n*2\r\n%b*%d\r\n%b" % (bulk(STREAM.encode()), COUNT, b"".join(entries))
    [[[_, read]]] = parsed(benchmark, reply, 1)
    assert len(read) == COUNT
