"""A command in a terminal, and what is on its screen as SVG."""

from __future__ import annotations

import io
import re
from itertools import groupby
from pathlib import Path

import pyte
from pyte.screens import Char
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

from mainflux_events.testing import redis_server
from pictures.scene import scene
from support import wait_until
from terminal import terminal

COLUMNS, LINES = 118, 40

# A committed picture asks no other site for its font.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


async def demo(path: Path) -> None:
    """The end of `mainflux-events demo`."""
    async with redis_server(tcp=True) as server:
        arguments = ("demo", "--redis-url", server.url)
        async with terminal(*arguments, columns=COLUMNS, lines=LINES) as opened:
            await opened.shows("Both handled all")
            if await opened.ended() != 0:
                raise RuntimeError(opened.text)
            save(opened.screen, arguments, path)


async def top(path: Path) -> None:
    """`mainflux-events top`, when it knows the rates."""
    looks = set()
    async with redis_server(tcp=True) as server, scene(server.url):
        await wait_until(lambda: server.command("EXISTS", "search.dead"), 10)
        async with terminal("top", columns=COLUMNS, lines=LINES, MAINFLUX_EVENTS_REDIS=server.url) as opened:
            await opened.shows("billing-2")

            def has_looked_again() -> bool:
                looks.add(opened.lines[0])  # which ends with the time
                return len(looks) > 2 and "q: quit" in opened.text

            await wait_until(has_looked_again, 10)
            save(opened.screen, ("top",), path)


def save(screen: pyte.Screen, arguments: tuple[str, ...], path: Path) -> None:
    """Write what is on the screen of a command."""
    console = Console(
        record=True, width=screen.columns, file=io.StringIO(), color_system="truecolor", force_terminal=True
    )
    rows = [row_of(screen, number) for number in range(screen.lines)]
    while rows and not rows[-1].plain.strip():
        rows.pop()
    for row in rows:
        console.print(row, soft_wrap=True)
    title = " ".join(("mainflux-events", *arguments))
    console.save_svg(str(path), title=title, code_format=FORMAT, unique_id=path.stem)


def row_of(screen: pyte.Screen, number: int) -> Text:
    """A line of the screen, with its colours."""
    line = screen.buffer[number]
    text = Text()
    for style, chars in groupby((line[column] for column in range(screen.columns)), style_of):
        text.append("".join(char.data for char in chars), style)
    return text


def style_of(char: Char) -> Style:
    """How a character is shown."""
    return Style(
        color=_colour(char.fg),
        bgcolor=_colour(char.bg),
        bold=char.bold,
        italic=char.italics,
        underline=char.underscore,
        reverse=char.reverse,
    )


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    # What the first terminals showed as brown, all others do as yellow.
    return name.replace("brown", "yellow").replace("bright", "bright_")
