"""What a run of the benchmarks finds out."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.measure import Taken


class Effort(msgspec.Struct, frozen=True):
    """How much is run.

    Attributes:
        rounds: how often each is measured; the rivals take turns.
        events: for whom is quick; slow ones run a part of them.
        latency: seconds of one measurement of the latency.
        long: whether the memory is watched over 5,000,000 events.
    """

    rounds: int = 5
    events: int = 100_000
    latency: float = 3.0
    long: bool = False

    @property
    def quick(self) -> bool:
        return self.events < Effort().events


class Speed(msgspec.Struct):
    """One way of publishing or consuming, measured once a round."""

    name: str
    takes: list[Taken] = []
    server_cpu: list[float] = []

    @property
    def rates(self) -> list[float]:
        """Events a second."""
        return [taken.events / taken.seconds for taken in self.takes]


class Measure(msgspec.Struct):
    """A number that has a bar.

    Attributes:
        values: one of each round.
        bar: the value that is good enough; none where it is for information only.
        goal: the value that is aimed at; none where the bar is all.
        at_most: whether less is better.
        unit: what stands behind the number.
    """

    name: str
    values: list[float]
    bar: float | None = None
    goal: float | None = None
    at_most: bool = False
    unit: str = ""

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def verdict(self) -> str:
        if self.bar is None:
            return ""
        sign = -1 if self.at_most else 1
        if self.goal is not None and sign * self.value >= sign * self.goal:
            return "goal"
        return "met" if sign * self.value >= sign * self.bar else "missed"


class Curve(msgspec.Struct):
    """How something grows: for each line its points."""

    name: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]


class Record(msgspec.Struct):
    """All of one run."""

    effort: Effort
    machine: dict[str, str]
    speeds: dict[str, list[Speed]] = {}
    measures: list[Measure] = []
    curves: list[Curve] = []
    notes: list[str] = []


def over(name: str, ours: list[float], theirs: list[float], **bar: Any) -> Measure:
    """A ratio, round by round."""
    return Measure(name, [our / their for our, their in zip(ours, theirs, strict=True)], **bar)


def machine(server_version: tuple[int, ...], pinned: bool) -> dict[str, str]:
    """Where this runs, and what with."""
    packages = ("redis", "hiredis", "msgspec", "coredis", "faststream")
    return {
        "processor": _processor(),
        "cores": f"{os.cpu_count()}, {'server and client each on one of them' if pinned else 'nothing pinned'}",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"Redis {'.'.join(map(str, server_version))}, on TCP of the same machine",
        "packages": ", ".join(f"{package} {version(package)}" for package in packages),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
