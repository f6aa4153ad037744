"""A record as charts."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

from benchmarks.record import Curve, Record, Speed

OURS, THEIRS = "#c0392b", "#7f8c8d"
COLUMNS = 3

mpl.rcParams |= {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "benchmarks",  # the same record gives the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(record: Record, directory: Path) -> None:
    """Write `rates.svg` and `growth.svg`, whichever there is something for."""
    beside = {part: record.speeds[part] for part in ("publish", "consume") if part in record.speeds}
    if beside:
        figure, axes = plt.subplots(
            len(beside), figsize=(8, 2.6 * len(beside)), squeeze=False, layout="constrained"
        )
        for ax, (part, speeds) in zip(axes.flat, beside.items(), strict=True):
            _bars(ax, part, speeds)
        figure.savefig(directory / "rates.svg", metadata={"Date": None})
    if record.curves:
        rows = -(-len(record.curves) // COLUMNS)
        figure, axes = plt.subplots(
            rows, COLUMNS, figsize=(10, 2.6 * rows), squeeze=False, layout="constrained"
        )
        for ax, curve in zip(axes.flat, record.curves, strict=False):
            _lines(ax, curve)
        for ax in axes.flat[len(record.curves) :]:
            ax.set_axis_off()
        figure.savefig(directory / "growth.svg", metadata={"Date": None})


def _bars(ax: plt.Axes, part: str, speeds: list[Speed]) -> None:
    speeds = sorted(speeds, key=lambda speed: median(speed.rates))
    middles = [median(speed.rates) for speed in speeds]
    names = [speed.name for speed in speeds]
    spread = [
        [middle - min(speed.rates) for middle, speed in zip(middles, speeds, strict=True)],
        [max(speed.rates) - middle for middle, speed in zip(middles, speeds, strict=True)],
    ]
    theirs = ("redis", "coredis", "FastStream")
    colours = [THEIRS if name.startswith(theirs) else OURS for name in names]
    bars = ax.barh(names, middles, xerr=spread, color=colours, error_kw={"linewidth": 0.8, "capsize": 2})
    ax.bar_label(bars, [f"{middle:,.0f}" for middle in middles], padding=12, fontsize=8)
    ax.margins(x=0.15)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_title(f"{part}: events a second", loc="left", fontweight="bold")


def _lines(ax: plt.Axes, curve: Curve) -> None:
    for line, points in curve.lines.items():
        xs, ys = zip(*points, strict=True)
        ax.plot(xs, ys, marker="o", markersize=3, label=line)
    if xs[0] > 0 and xs[-1] / xs[0] > 20:
        ax.set_xscale("log")
    ax.set_ylim(0, 1.1 * max(y for points in curve.lines.values() for _, y in points))
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_title(curve.name, loc="left", fontweight="bold", fontsize=9)
    ax.set_xlabel(curve.x)
    ax.set_ylabel(curve.y)
    if len(curve.lines) > 1:
        ax.legend(frameon=False, fontsize=8)
