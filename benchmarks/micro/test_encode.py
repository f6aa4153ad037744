"""An event to the packed command of its entry."""

from __future__ import annotations

import hiredis
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.bench import STREAM
from benchmarks.events import MAX_LEN, an_event, fields
from benchmarks.parts.sized import of_size
from mainflux_events import Event, ThingRemoved, wire
from mainflux_events.resp import Append

EVENTS = {"eleven fields": an_event(1), "five fields": Event(ThingRemoved(id="1")), "10 kB": of_size(10_000)}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_encode(benchmark: BenchmarkFixture, event: Event) -> None:
    heads = Append(STREAM, MAX_LEN)
    assert benchmark(wire.encode, event, heads).startswith(b"*")


def test_pack_command_alone(benchmark: BenchmarkFixture) -> None:
    """What the same command costs where its arguments are there already: the measure for the others."""
    entry = [part for pair in fields(an_event(1)).items() for part in pair]
    command = ("XADD", STREAM, "MAXLEN", "~", str(MAX_LEN), "*", *entry)
    octets = tuple(part.encode() if isinstance(part, str) else part for part in command)
    assert benchmark(hiredis.pack_command, octets).startswith(b"*")
