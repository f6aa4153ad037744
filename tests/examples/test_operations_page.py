"""The page on operating: every command on it is run, and the rights that it lists are tried."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from commands import ENVIRONMENT, running
from copies import EVERY_KIND, fill, held, now, numbered, shown
from mainflux_events.deadletters import dead_letter
from mainflux_events.testing import RedisServer, redis_server

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
ID = "1526919030474-55"
NEW = "redis://new:6379/0"
BLOCKS = re.findall(r"^ *```console\n(.*?)^ *```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [line.strip() for block in BLOCKS for line in block.splitlines() if not line.startswith("ACL ")]


@pytest.fixture
async def old() -> AsyncIterator[RedisServer]:
    """The server of the page: healthy, with a stream, a subscriber and dead letters."""
    async with redis_server(aof=True, config={"appendfsync": "everysec"}) as server:
        await server.command("XADD", "mainflux.things", ID, *numbered(1)[0])
        await server.command("SET", "mainflux:cursor:audit:mainflux.things", ID)
        await server.command("XADD", "mainflux.auth", "*", *numbered(1)[0])
        for id, operation, error in (
            (ID, b"thing.create", TimeoutError("too long")),
            ("*", b"thing.remove", TimeoutError("too long")),
            ("*", b"thing.update", ValueError("no")),
        ):
            letter = dead_letter([b"operation", operation], "mainflux.things", b"1-0", error, 2, "billing")
            await server.command("XADD", "things:dead", id, *letter)
        yield server


@pytest.fixture
async def new() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


def test_every_command_of_the_page_works(
    old: RedisServer,
    new: RedisServer,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAINFLUX_EVENTS_REDIS", old.url)
    for line in COMMANDS:
        program, *arguments = shlex.split(line.replace(NEW, new.url), comments=True)
        if program == "redis-cli":
            assert arguments[:2] == ["-u", new.url]
            assert now(new.command(*arguments[2:])) == b"OK"
            continue
        assert program == "mainflux-events"
        if arguments[0] == "mirror":
            asyncio.run(mirror_until_it_has_caught_up(arguments, old.url))
        elif {"|", ">"} & set(arguments):
            script = f'mainflux-events() {{ "{sys.executable}" -m mainflux_events "$@"; }}; set -o pipefail; {line}'
            environment = ENVIRONMENT | {"MAINFLUX_EVENTS_REDIS": old.url}
            subprocess.run(
                ["bash", "-c", script], check=True, timeout=30, env=environment, capture_output=True
            )
        else:
            outcome = shown(capsys, *arguments)
            assert outcome.status == 0, (line, outcome)
    assert (tmp_path / "things.jsonl").read_text().count("\n") == now(old.command("XLEN", "copy.things"))
    assert now(new.command("GET", "mainflux:cursor:audit:mainflux.things")) == ID.encode()
    assert now(held(new, "mainflux.things"))[0] == numbered(1)[0]


async def mirror_until_it_has_caught_up(arguments: list[str], url: str) -> None:
    async with running(*arguments, MAINFLUX_EVENTS_REDIS=url) as process:
        assert process.stderr is not None
        while b"caught up" not in (line := await process.stderr.readline()):
            assert line, "it has ended"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


def test_every_command_that_copies_or_acts_is_on_the_page() -> None:
    names = {tuple(line.split()[1:3]) if " dlq " in line else line.split()[1] for line in COMMANDS}
    assert names >= {"doctor", "replay", "mirror", "dump", "load"}
    assert names >= {("dlq", "list"), ("dlq", "show"), ("dlq", "redrive"), ("dlq", "drop")}


# --- rights


def listed(user: str) -> list[str]:
    """The rule of a user, as the page lists it."""
    [line] = re.findall(rf"^ACL SETUSER {user} (.*)$", PAGE.read_text(), re.MULTILINE)
    return shlex.split(line)


def as_users(server: RedisServer, *without: str) -> tuple[str, str]:
    """The URLs of both users, with the listed rights but for these."""
    for user in ("reader", "writer"):
        now(server.command("ACL", "SETUSER", user, "reset", *(r for r in listed(user) if r not in without)))
    return (
        server.url.replace("unix://", "unix://reader:secret@"),
        server.url.replace("unix://", "unix://writer:secret@"),
    )


def test_the_listed_rights_are_enough(
    fresh_server: RedisServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    some = [fields for fields in EVERY_KIND if len(fields) < 7000]
    now(fill(fresh_server, "mainflux.things", some))
    with_rights = as_users(fresh_server)
    now(
        fresh_server.command(
            "ACL", "SETUSER", "writer", "resetkeys", "~copy", "~mainflux:replay:*", "~mainflux:load:*"
        )
    )
    bounds = ("--redis", with_rights[0], "--to-redis", with_rights[1])
    assert shown(capsys, "replay", "mainflux.things", "copy", *bounds).status == 0
    (tmp_path / "lines").write_text(
        shown(capsys, "dump", "mainflux.things", "--redis", with_rights[0]).output
    )
    assert shown(capsys, "load", "copy", str(tmp_path / "lines"), "--redis", with_rights[1]).status == 0
    assert now(held(fresh_server, "copy")) == some * 2


@pytest.mark.parametrize(
    "right",
    [
        right
        for user in ("reader", "writer")
        for right in listed(user)
        if right[0] == "+" and right != "+xread"
    ],
)
def test_each_of_them_is_needed_and_what_is_missing_is_told_without_appending(
    right: str, fresh_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    now(fill(fresh_server, "mainflux.things", numbered(1)))
    reader, writer = as_users(fresh_server, right)
    now(fresh_server.command("ACL", "SETUSER", "writer", "~copy"))
    bounds = ("--redis", reader, "--to-redis", writer)
    outcome = shown(capsys, "replay", "mainflux.things", "copy", *bounds)
    assert (outcome.status, "needs" in outcome.complaint) == (1, True)
    assert right in outcome.complaint
    assert now(held(fresh_server, "copy")) == []
    assert "secret" not in outcome.errors
