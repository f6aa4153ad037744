"""A record as tables: on the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.record import Measure, Record, Speed

Cells = list[str]

WIDTH = 130  # characters: what the tables need

SPEEDS = [
    "",
    "events/s",
    "least",
    "most",
    "client CPU, µs an event",
    "server CPU, µs an event",
    "peak memory, MB",
]
MEASURES = ["measure", "value", "least", "most", "bar", "goal", ""]
COLOURS = {"goal": "green", "met": "yellow", "missed": "bold red"}


def speed_cells(speed: Speed) -> Cells:
    rates = speed.rates
    client = median(taken.cpu / taken.events for taken in speed.takes) * 1e6
    server = [cpu / taken.events * 1e6 for cpu, taken in zip(speed.server_cpu, speed.takes, strict=False)]
    peak = max(taken.peak for taken in speed.takes) / 1e6
    return [
        speed.name,
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f}",
        f"{max(rates):,.0f}",
        f"{client:.1f}",
        f"{median(server):.1f}" if server else "",
        f"{peak:.0f}" if peak else "",
    ]


def measure_cells(measure: Measure) -> Cells:
    limit = "at most" if measure.at_most else "at least"
    return [
        f"{measure.name}, {measure.unit}" if measure.unit else measure.name,
        f"{measure.value:.2f}",
        f"{min(measure.values):.2f}",
        f"{max(measure.values):.2f}",
        "" if measure.bar is None else f"{limit} {measure.bar:g}",
        "" if measure.goal is None else f"{measure.goal:g}",
        measure.verdict,
    ]


def _tables(record: Record) -> Iterator[tuple[str, Cells, list[Cells]]]:
    for part, speeds in record.speeds.items():
        yield part, SPEEDS, [speed_cells(speed) for speed in speeds]
    if record.measures:
        yield "measures", MEASURES, [measure_cells(measure) for measure in record.measures]
    for curve in record.curves:
        heads = [curve.x, *(f"{line}, {curve.y}" for line in curve.lines)]
        columns = [dict(points) for points in curve.lines.values()]
        rows = [
            [
                f"{x:,.0f}",
                *(f"{column[x]:,.0f}" if column[x] >= 100 else f"{column[x]:.2f}" for column in columns),
            ]
            for x in columns[0]
        ]
        yield curve.name, heads, rows


def show(record: Record) -> None:
    """Print it."""
    console = Console()
    if console.width < WIDTH:
        console = Console(width=WIDTH)
    console.print(", ".join(record.machine.values()))
    for title, heads, rows in _tables(record):
        table = Table(title=title, title_justify="left")
        for place, head in enumerate(heads):
            table.add_column(head, justify="right" if place else "left")
        for row in rows:
            table.add_row(*row, style=COLOURS.get(row[-1]))
        console.print(table)
    for note in record.notes:
        console.print(note)


def markdown(record: Record) -> str:
    """The same for the documentation."""
    lines = [
        "| | |",
        "| --- | --- |",
        *(f"| {what} | {value} |" for what, value in record.machine.items()),
        "",
    ]
    for title, heads, rows in _tables(record):
        lines += [f"### {title.capitalize()}", "", _row(heads), _row(["---"] + ["---:"] * (len(heads) - 1))]
        lines += [*map(_row, rows), ""]
    return "\n".join([*lines, *record.notes, ""])


def _row(cells: Cells) -> str:
    return f"| {' | '.join(cells)} |"
