"""What a stretch of work takes: time, CPU, memory. Rates and spreads of several."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time

import msgspec


class Taken(msgspec.Struct):
    """What a stretch of work took.

    Attributes:
        events: how many it was for.
        seconds: from its begin to its end.
        cpu: seconds of CPU of this process.
        peak: the most memory this process ever had, in bytes.
        grown: how much of that came while it lasted.
    """

    events: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    grown: int = 0


@contextmanager
def measured(events: int = 0) -> Iterator[Taken]:
    """Measure the block; the object is filled in at its end."""
    taken = Taken(events)
    before = peak_memory()
    began, cpu = perf_counter(), process_time()
    yield taken
    taken.seconds, taken.cpu = perf_counter() - began, process_time() - cpu
    taken.peak = peak_memory()
    taken.grown = taken.peak - before


def peak_memory() -> int:
    """The most memory that this process ever had, in bytes."""
    try:
        # Not getrusage's: on Linux a new process begins with the peak of the one that started it.
        return _status("VmHWM")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def memory() -> int:
    """The memory that this process has now, in bytes (on Linux; elsewhere the most it ever had)."""
    try:
        return _status("VmRSS")
    except OSError:
        return peak_memory()


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kilobytes) * 1024


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
