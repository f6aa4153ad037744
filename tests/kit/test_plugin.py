"""The fixtures for pytest, as they are in a project of a user."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest
import pytest_asyncio

from kit.running import run_pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
CONFTEST = {"conftest.py": 'pytest_plugins = ["mainflux_events.testing.pytest"]\n'}


def files_of(page: Path) -> dict[str, str]:
    """The files that a page shows."""
    return dict(
        re.findall(r'^```python title="([^"]*)"\n(.*?)^```$', page.read_text(), re.MULTILINE | re.DOTALL)
    )


async def test_the_tests_on_the_page_pass(tmp_path: Path) -> None:
    files = files_of(PAGE)
    wanted = sum(len(re.findall(r"^(?:async )?def test_", text, re.MULTILINE)) for text in files.values())
    # Starlette would have its test client on the successor of httpx.
    code, output = await run_pytest(tmp_path, files, "-W", "error", "-W", "ignore:Using `httpx`")
    assert code == 0, output
    assert wanted == 6
    assert f"{wanted} passed" in output, output


async def test_nothing_is_loaded_unasked(tmp_path: Path) -> None:
    assert not distribution("mainflux-events").entry_points.select(group="pytest11")
    test = "def test_it(events_memory): pass\n"
    code, output = await run_pytest(tmp_path, {"test_it.py": test})
    assert code == 1
    assert "fixture 'events_memory' not found" in output


USES = """
import pytest
from mainflux_events import Subscriber

@pytest.mark.parametrize("time", [1, 2])
async def test_own(time, events_memory, events_redis):
    for server in (events_memory, events_redis):
        assert await server.command("EXISTS", "key") == 0
        await server.command("SET", "key", "value")
        assert await server.command("EXISTS", "key") == 1

async def test_open(events_memory):
    left = Subscriber(events_memory.url, "things", "audit")
    await left.start()

def test_failed(events_redis):
    print("this is process", events_redis.pid)
    raise ValueError
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of tests that use the fixtures, well and badly."""
    folder = tmp_path_factory.mktemp("uses")
    code, output = await run_pytest(folder, {**CONFTEST, "test_uses.py": USES}, "-rA")
    assert code == 1
    return output


def test_each_test_has_servers_of_its_own(output: str) -> None:
    for time in (1, 2):
        assert re.search(rf"^PASSED .*test_own\[{time}\]$", output, re.MULTILINE), output


def test_a_test_that_leaves_a_connection_open_fails(output: str) -> None:
    assert re.search("^PASSED .*test_open$", output, re.MULTILINE), output
    assert re.search("^ERROR .*test_open - ", output, re.MULTILINE), output
    assert re.search(
        r"\d connections to memory://[\w-]+ were left open; the last command of each: [A-Z]+", output
    )


def test_a_test_that_fails_leaves_no_server_running(output: str) -> None:
    assert re.search("^FAILED .*test_failed - ValueError$", output, re.MULTILINE), output
    pid = re.search(r"this is process (\d+)", output)
    assert pid
    assert not Path("/proc", pid[1]).exists()


async def test_they_serve_tests_under_the_plugin_of_anyio_too(tmp_path: Path) -> None:
    test = """
import pytest
from mainflux_events import Publisher, ThingRemoved

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_it(events_memory, events_redis):
    for server in (events_memory, events_redis):
        async with Publisher(server.url, "things") as publisher:
            await publisher.send(ThingRemoved("t1"))
"""
    code, output = await run_pytest(
        tmp_path,
        {**CONFTEST, "test_it.py": test, "pytest.ini": "[pytest]\n"},
        "-p",
        "no:asyncio",
        "-p",
        "anyio",
    )
    assert code == 0, output
    assert "1 passed" in output
