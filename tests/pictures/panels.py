"""Panels of a Grafana dashboard, drawn by matplotlib: where it says, with the titles, units and legends it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from pictures.dashboard import Series

# Grafana's grid has 24 columns. Inches of a cell, and of what stands around the axes in a panel.
WIDTH, HEIGHT = 0.62, 0.34
LEFT, RIGHT, TOP, BOTTOM = 0.6, 0.15, 0.35, 0.75

UNITS = {"ops": "events/s", "s": "seconds", "short": "", "none": ""}

mpl.rcParams |= {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "pictures",  # the same numbers give the same file
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(panels: Sequence[tuple[dict[str, Any], Sequence[Series]]], path: Path) -> None:
    """Write a dashboard as SVG.

    Args:
        panels: each as the dashboard has it, and its series.
        path: of the picture.
    """
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in panels)
    size = 24 * WIDTH, rows * HEIGHT
    figure = plt.figure(figsize=size)
    for panel, series in panels:
        place = panel["gridPos"]
        if panel["type"] == "row":
            y = 1 - (place["y"] + 0.7) / rows
            figure.text(0.01, y, panel["title"], fontsize=12, fontweight="bold")
            continue
        ax = figure.add_axes(
            (
                (place["x"] * WIDTH + LEFT) / size[0],
                1 - ((place["y"] + place["h"]) * HEIGHT - BOTTOM) / size[1],
                (place["w"] * WIDTH - LEFT - RIGHT) / size[0],
                (place["h"] * HEIGHT - TOP - BOTTOM) / size[1],
            )
        )
        ax.set_title(panel["title"], loc="left", fontweight="bold", fontsize=9)
        {"stat": _stat, "timeseries": _lines}[panel["type"]](ax, panel, series)
    figure.savefig(path, metadata={"Date": None})


def _lines(ax: plt.Axes, panel: dict[str, Any], series: Sequence[Series]) -> None:
    for each in series:
        ax.plot(each.times, each.values, linewidth=1, label=each.name)
    ax.set_ylim(0, max(1.0, 1.1 * max(max(each.values) for each in series)))
    ax.yaxis.set_major_formatter("{x:,g}")
    ax.xaxis.set_major_formatter("{x:g} s")
    ax.grid(linewidth=0.3)
    ax.set_ylabel(UNITS[panel["fieldConfig"]["defaults"]["unit"]])
    columns = 2 if panel["gridPos"]["w"] < 8 else 3
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, frameon=False, fontsize=6)


def _stat(ax: plt.Axes, panel: dict[str, Any], series: Sequence[Series]) -> None:
    """The last value of each, in words and with the colour that the dashboard has for it."""
    settings = panel["fieldConfig"]["defaults"]
    words = settings["mappings"][0]["options"]
    ax.set_axis_off()
    for number, each in enumerate(series):
        value = each.values[-1]
        [*_, colour] = [
            step["color"]
            for step in settings["thresholds"]["steps"]
            if step["value"] is None or value >= step["value"]
        ]
        y = 0.8 - number * 0.8 / len(series)
        said = words[f"{value:g}"]["text"]
        ax.text(0.05, y, each.name, fontsize=10)
        ax.text(0.95, y, said, ha="right", color="white", backgroundcolor=f"tab:{colour}", fontsize=10)
