"""Run the benchmarks: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import asyncio
from importlib import import_module
from pathlib import Path
from time import perf_counter

import msgspec

from benchmarks import report
from benchmarks.bench import SERVER_CORES, benching
from benchmarks.record import Effort, Record, machine

PARTS = (
    "publish",
    "consume",
    "filters",
    "concurrency",
    "distance",
    "call",
    "latency",
    "fairness",
    "memory",
    "growth",
)
QUICK = Effort(rounds=1, events=10_000, latency=0.5)
HERE = Path(__file__).parent
RESULTS, IMAGES = HERE / "results", HERE.parent / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of fewer events: under a minute")
    parser.add_argument("--only", default=",".join(PARTS), help=f"the parts to run, of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="how often each is measured (5, or 1 with --quick)")
    parser.add_argument(
        "--long", action="store_true", help="watch the memory over 5,000,000 events: minutes more"
    )
    parser.add_argument(
        "--save", action="store_true", help="write benchmarks/results/ and the charts in docs/images/"
    )
    chosen = parser.parse_args()
    parts = chosen.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: no part is called {', '.join(sorted(unknown))}")
    effort = QUICK if chosen.quick else Effort()
    effort = msgspec.structs.replace(effort, rounds=chosen.rounds or effort.rounds, long=chosen.long)
    record = asyncio.run(run(effort, parts))
    report.show(record)
    if chosen.save:
        save(record)


async def run(effort: Effort, parts: list[str]) -> Record:
    async with benching() as bench:
        record = Record(effort, machine(bench.server.version, pinned=bool(SERVER_CORES)))
        for part in parts:
            began = perf_counter()
            print(f"{part} …", end="", flush=True)
            await import_module(f"benchmarks.parts.{part}").run(bench, record)
            print(f" {perf_counter() - began:.0f} s")
    return record


def save(record: Record) -> None:
    from benchmarks.chart import draw

    RESULTS.mkdir(exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    (RESULTS / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    (RESULTS / "results.md").write_text(report.markdown(record), encoding="utf-8")
    draw(record, IMAGES)


if __name__ == "__main__":
    main()
