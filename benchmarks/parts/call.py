"""What one call of `publish_nowait` costs its caller, beside packing the same command alone."""

from __future__ import annotations

from time import perf_counter

import hiredis

from benchmarks.bench import STREAM, Bench
from benchmarks.events import MAX_LEN, events, fields
from benchmarks.record import Measure, Record, over
from mainflux_events import Publisher

# Fewer than the buffer holds, so that nothing is dropped; the drain works when these are timed no more.
CALLS = 5000


async def run(bench: Bench, record: Record) -> None:
    await bench.clear()
    rounds = 10 if record.effort.quick else 40
    ours, theirs = bench.run(
        tuple[list[float], list[float]], __name__, "compare", url=bench.url, rounds=rounds
    )
    record.measures += [
        over(
            "a publish_nowait call over hiredis.pack_command alone",
            ours,
            theirs,
            bar=2.0,
            goal=1.3,
            at_most=True,
        ),
        Measure("a publish_nowait call", [seconds * 1e6 for seconds in ours], unit="µs"),
    ]


async def compare(url: str, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of a call of each, in turns."""
    batch = list(events(CALLS))
    # All arguments are bytes by now: that is the quickest for `pack_command`.
    commands = [tuple(map(_octets, _xadd(fields(event)))) for event in batch]
    ours, theirs = [], []
    pack = hiredis.pack_command
    async with Publisher(url, STREAM) as publisher:
        publish = publisher.publish_nowait
        for _ in range(rounds):
            began = perf_counter()
            for event in batch:
                publish(event)
            ours.append((perf_counter() - began) / CALLS)
            await publisher.flush()
            began = perf_counter()
            for command in commands:
                pack(command)
            theirs.append((perf_counter() - began) / CALLS)
    return ours, theirs


def _xadd(entry: dict[str, str | bytes]) -> list[str | bytes]:
    return [
        "XADD",
        STREAM,
        "MAXLEN",
        "~",
        str(MAX_LEN),
        "*",
        *(part for pair in entry.items() for part in pair),
    ]


def _octets(part: str | bytes) -> bytes:
    return part.encode() if isinstance(part, str) else part
