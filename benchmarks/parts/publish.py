"""Publishing, beside the rivals and the ceiling."""

from __future__ import annotations

from importlib import import_module

from benchmarks.bench import STREAM, Bench
from benchmarks.measure import Taken
from benchmarks.record import Effort, Record, Speed, over

OURS = "mainflux"
RIVALS = (
    OURS,
    "redis_pipeline",
    "coredis_pipeline",
    "faststream_batch",
    "faststream_single",
    "redis_each",
)
IDEMPOTENT = "mainflux-events, idempotent"
CEILING = "redis-benchmark -P 500 -c 1"
LEAST_FOR_CEILING = 50_000
ATTEMPTS = 4

# (over whom, at least, goal)
BARS = (
    ("redis_pipeline", 4, 7),
    ("faststream_single", 20, 30),
    ("coredis_pipeline", 5, 8),
    (CEILING, 0.5, 0.8),
    ("faststream_batch", None, None),
    ("redis_each", None, None),
)


async def run(bench: Bench, record: Record) -> None:
    effort = record.effort
    speeds = {name: Speed(import_module(f"benchmarks.rivals.{name}").TITLE) for name in RIVALS}
    speeds[IDEMPOTENT] = Speed(IDEMPOTENT)
    speeds[CEILING] = Speed(CEILING)
    for _ in range(effort.rounds):
        for name, speed in speeds.items():
            for _ in range(ATTEMPTS):
                await bench.clear()
                before = await bench.server_cpu()
                taken = _one(bench, name, effort)
                if taken is None or taken.events == _count(name, effort):
                    break
                # With nobody else at work here, the drain keeps up.
                record.notes.append(
                    f"{speed.name}: a run was done again, as {taken.events} of the events arrived."
                )
            else:
                raise AssertionError(f"{speed.name}: events are lost every time")
            if taken is None:
                continue
            speed.takes.append(taken)
            speed.server_cpu.append(await bench.server_cpu() - before)
            stored = await bench.server.command("XLEN", STREAM)
            assert stored >= taken.events > 0, (name, stored, taken.events)
    if not speeds[CEILING].takes:
        record.notes.append(
            f"Left out: {CEILING}, which is not on this machine (Debian's redis-tools has it)."
        )
        del speeds[CEILING]
    record.speeds["publish"] = list(speeds.values())
    ours = speeds[OURS].rates
    record.measures += [
        over(f"publish, over {speeds[name].name}", ours, speeds[name].rates, bar=bar, goal=goal)
        for name, bar, goal in BARS
        if name in speeds
    ]
    record.measures.append(over("publish, idempotent over default", speeds[IDEMPOTENT].rates, ours, bar=0.6))


def _one(bench: Bench, name: str, effort: Effort) -> Taken | None:
    if name == CEILING:
        return bench.redis_benchmark(_count(name, effort))
    settings = {"idempotent": True} if name == IDEMPOTENT else {}
    module, count = _module(name), _count(name, effort)
    return bench.run(Taken, module, "publish", url=bench.url, stream=STREAM, count=count, **settings)


def _module(name: str) -> str:
    return f"benchmarks.rivals.{OURS if name == IDEMPOTENT else name}"


def _count(name: str, effort: Effort) -> int:
    if name == CEILING:
        return max(effort.events, LEAST_FOR_CEILING)  # it knows its own time in milliseconds only
    share: float = import_module(_module(name)).SHARE
    return int(effort.events * share)
