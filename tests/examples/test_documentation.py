"""What the README and the pages under docs/ say, tried."""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
import sys
from pathlib import Path

import pytest

from mainflux_events import (
    THINGS_STREAM,
    Backoff,
    Commit,
    PartitionedSubscriber,
    Publisher,
    Retry,
    Subscriber,
)
from mainflux_events.testing import RedisServer

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
URL = "redis://localhost:6379/0"
DATABASE_URL = "postgresql+asyncpg://localhost/shop"

# Runs a page: its blocks in turn, which may await.
RUNNER = """\
import ast, asyncio, inspect, sys, types
code = compile(sys.stdin.read(), sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
module = sys.modules["page"] = types.ModuleType("page")  # where frameworks look for the types of its functions
async def page():
    result = eval(code, vars(module))
    if inspect.isawaitable(result):
        await result
asyncio.run(page())
"""


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page in a language; what it takes from a file with that in its place."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [
        re.sub(r'^--8<-- "(.*)"$', lambda file: (ROOT / file[1]).read_text(), each, flags=re.MULTILINE)
        for each in found
    ]


def commands() -> list[str]:
    return [block.strip() for block in blocks(README, "console")]


async def run(source: str, *arguments: str) -> str:
    """Run Python code to its end, which has to be a good one. Gives what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate(source.encode())
    assert (process.returncode, errors.decode()) == (0, "")
    return output.decode()


# ---- the README


def test_the_readme_names_the_two_commands_that_set_everything_up() -> None:
    assert 'python -m pip install ".[demo]" && mainflux-events demo' in commands()
    assert "python -m pip install nox && python -m nox" in commands()


def test_ci_runs_the_second_command_word_for_word() -> None:
    *_, last = (ROOT / ".ci" / "run").read_text().splitlines()
    assert last == "python -m pip install nox && python -m nox"


async def test_what_the_readmes_first_example_publishes_its_second_one_consumes(server: RedisServer) -> None:
    publish, consume = [block.replace(URL, server.url) for block in blocks(README, "python")]
    output = await run("", publish)
    entry_id = output.removeprefix("stored as ").strip()
    [(stored, _)] = await server.command("XREVRANGE", THINGS_STREAM, "+", "-", "COUNT", "1")
    assert entry_id == stored.decode()

    consumer = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", consume, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert consumer.stdout is not None
    try:
        assert await consumer.stdout.readline() == b"t1 was created as sensor\n"
        assert await consumer.stdout.readline() == b"t1 was removed by somebody\n"
    finally:
        consumer.send_signal(signal.SIGINT)
        await consumer.wait()


# ---- the pages


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem
)
async def test_the_code_of_a_page_runs_from_top_to_bottom(page: Path, server: RedisServer) -> None:
    source = "\n".join(blocks(page, "python")).replace("from __future__ import annotations\n", "")
    source = source.replace(URL, server.url).replace(DATABASE_URL, "sqlite+aiosqlite://")
    await run(source, RUNNER, str(page))
    # Code that stands in no function has published something.
    assert (await server.command("DBSIZE") > 0) == bool(re.search(r"^async with", source, re.MULTILINE))


def options_of(page: Path, heading: str) -> dict[str, str]:
    """The first table below a heading, or the first whose head holds the text: names and defaults as written."""
    _, _, rest = page.read_text().partition(heading)
    table = rest[rest.index("| --- |") :].partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\|", table, re.MULTILINE))


def value_of(written: str) -> object:
    if written.endswith("MiB"):
        return int(written.split(maxsplit=1)[0]) * 1024 * 1024
    return eval(written.strip("`"), {"Backoff": Backoff, "Commit": Commit, "Retry": Retry})


@pytest.mark.parametrize(
    ("function", "page", "heading"),
    [
        (Publisher, "publishing", "\n## Options\n"),
        (Subscriber, "subscribing", "\n## Options\n"),
        (PartitionedSubscriber, "partitions", "\n## Options\n"),
        (Subscriber.run, "subscribing", "\n| option of `run` |"),
    ],
)
def test_every_option_is_listed_with_its_default(function: object, page: str, heading: str) -> None:
    assert callable(function)
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "handler", "task_status")
    }
    written = options_of(ROOT / "docs" / f"{page}.md", heading)
    assert list(written) == list(parameters)
    for name, default in parameters.items():
        if default is inspect.Parameter.empty:
            assert written[name] == ""
        else:
            assert value_of(written[name]) == default, name


LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


@pytest.mark.parametrize(
    "page", [page for page in (README, *PAGES) if LINK.search(page.read_text())], ids=lambda page: page.stem
)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{path}#{anchor}"
