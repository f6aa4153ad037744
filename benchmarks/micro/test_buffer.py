"""A thousand packed events into the buffer, out of it as a batch, and settled."""

from __future__ import annotations

import asyncio

from pytest_benchmark.fixture import BenchmarkFixture

from mainflux_events.buffer import Buffer

EVENTS = 1000


def no_drop(position: int | None, packed: bytes) -> None:
    raise AssertionError(position)


def test_buffer(benchmark: BenchmarkFixture) -> None:
    buffer = Buffer(size=10_000, size_bytes=1 << 26, overflow="drop_oldest", dropped=no_drop)
    packed = b"x" * 600

    def through() -> None:
        for _ in range(EVENTS):
            buffer.put(packed)
        taking = buffer.next_batch(EVENTS, 1 << 30)
        try:
            taking.send(None)  # there is an event, so it waits for nothing
        except StopIteration:
            buffer.settle(EVENTS)

    with asyncio.Runner() as runner:
        runner.get_loop()
        benchmark(through)
    assert buffer.unsettled == 0
