"""An entry to its event."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.bench import STREAM
from benchmarks.events import MAX_LEN
from benchmarks.micro.test_encode import EVENTS
from mainflux_events import Event, wire
from mainflux_events.resp import Append


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_decode(benchmark: BenchmarkFixture, event: Event) -> None:
    append = Append(STREAM, MAX_LEN)
    entry = append.fields_of(wire.encode(event, append))
    assert benchmark(wire.decode, entry, STREAM, "1-0").action == event.action
