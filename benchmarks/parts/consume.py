"""Consuming from the beginning of a stream, beside the rivals, and what commits cost."""

from __future__ import annotations

from importlib import import_module

from benchmarks.bench import STREAM, Bench
from benchmarks.measure import Taken
from benchmarks.record import Record, Speed, over

OURS = "benchmarks.rivals.mainflux"
RIVALS = ("redis_xread", "faststream_batch", "faststream_single")

# Title, and the settings of the library's own run.
VARIANTS = {
    "every": ("mainflux-events, Commit.every()", {}),
    "each": ("mainflux-events, Commit.each()", {"commit": "each"}),
    "every, awaiting": ("Commit.every(), handlers await", {"handler": "async"}),
    "each, awaiting": ("Commit.each(), handlers await", {"commit": "each", "handler": "async"}),
    "group, every": ("GroupSubscriber, Commit.every()", {"group": True}),
    "group, each": ("GroupSubscriber, Commit.each()", {"group": True, "commit": "each"}),
    "run": ("run(handler), Commit.each()", {"commit": "each", "by": "run"}),
}

# (of whom, over whom, at least, goal)
BARS = (
    ("every", "faststream_single", 12, 20),
    ("every", "redis_xread", 1.1, 1.4),
    ("every", "faststream_batch", None, None),
    ("each", "every", 0.8, 0.95),
    ("each, awaiting", "every, awaiting", 0.5, 0.7),
    ("group, every", "every", 0.5, None),
    ("group, each", "each", 0.5, None),
    ("run", "each", None, None),
)


async def run(bench: Bench, record: Record) -> None:
    effort = record.effort
    await fill(bench, effort.events)
    speeds = {name: Speed(title) for name, (title, _) in VARIANTS.items()}
    speeds |= {name: Speed(import_module(f"benchmarks.rivals.{name}").TITLE) for name in RIVALS}
    for _ in range(effort.rounds):
        for name, speed in speeds.items():
            await bench.clear_positions(STREAM)
            before = await bench.server_cpu()
            speed.takes.append(_one(bench, name, effort.events))
            speed.server_cpu.append(await bench.server_cpu() - before)
    record.speeds["consume"] = list(speeds.values())
    record.measures += [
        over(
            f"consume, {speeds[ours].name} over {speeds[theirs].name}",
            speeds[ours].rates,
            speeds[theirs].rates,
            bar=bar,
            goal=goal,
        )
        for ours, theirs, bar, goal in BARS
    ]


async def fill(bench: Bench, count: int) -> None:
    """One stream with the eleven fields, and one with FastStream's own messages."""
    await bench.clear()
    bench.run(Taken, OURS, "publish", url=bench.url, stream=STREAM, count=count)
    theirs = "benchmarks.rivals.faststream_single"
    bench.run(Taken, theirs, "fill", url=bench.url, stream=f"{STREAM}.faststream", count=count // 5)


def _one(bench: Bench, name: str, events: int) -> Taken:
    if name in VARIANTS:
        keywords = VARIANTS[name][1]
        return bench.run(Taken, OURS, "consume", url=bench.url, stream=STREAM, count=events, **keywords)
    module = f"benchmarks.rivals.{name}"
    count = int(events * import_module(module).SHARE)
    stream = f"{STREAM}.faststream" if name.startswith("faststream") else STREAM
    return bench.run(Taken, module, "consume", url=bench.url, stream=stream, count=count)
