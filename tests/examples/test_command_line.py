"""The examples of docs/cli.md, run, each command's on a server with something in it."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from commands import ENVIRONMENT, command
from mainflux_events.cli.app import app
from mainflux_events.testing import RedisServer
from support import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [each.name or each.callback.__name__ for each in app.registered_commands if each.callback]

MODULE = """\
from mainflux_events import Action

class OrderPlaced(Action, tag="order.placed"):
    order_id: str
"""
EVENT = '{"operation": "thing.remove", "action": {"id": "t1"}}\n'


def examples(section: str) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture
async def directory(server: RedisServer, tmp_path: Path) -> Path:
    """Where the examples run: with what they name, on the server and in files."""
    await server.command("XADD", "mainflux.things", "*", "operation", "thing.remove", "id", "t1")
    await server.command("XADD", "mainflux.auth", "*", "operation", "org.remove", "id", "o1")
    await server.command("XADD", "orders", "*", "operation", "order.placed", "order_id", "1")
    await server.command("XGROUP", "CREATE", "orders", "billing", "$")
    await server.command("SET", "mainflux:cursor:audit:mainflux.things", "0-0")
    (tmp_path / "events.jsonl").write_text(EVENT * 3)
    (tmp_path / "my_app").mkdir()
    (tmp_path / "my_app" / "events.py").write_text(MODULE)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "mainflux-events"
    # As a script of an installation: the current directory is not where modules are looked for.
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m mainflux_events "$@"\n')
    program.chmod(0o755)
    return tmp_path


async def run(line: str, directory: Path, server: RedisServer) -> tuple[int | None, str]:
    """Run an example; one that goes on for ever is interrupted when it reads. Gives its status, and its errors."""
    environment = ENVIRONMENT | {
        "MAINFLUX_EVENTS_REDIS": server.url,
        "PATH": f"{directory / 'bin'}:{ENVIRONMENT['PATH']}",
    }
    endless = line.startswith("mainflux-events tail")
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f"exec {line}" if endless else line, cwd=directory, env=environment,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    if endless:

        async def reads() -> bool:
            return b"cmd=xread" in await server.command("CLIENT", "LIST") or process.returncode is not None

        await wait_until(reads, 40)
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, errors.decode()


@pytest.mark.parametrize("name", COMMANDS)
async def test_the_examples_of_each_command_work(name: str, directory: Path, server: RedisServer) -> None:
    lines = examples(SECTIONS[name])
    assert lines
    for line in lines:
        status, errors = await run(line, directory, server)
        assert (line, status, "Traceback" in errors) == (line, 130 if name == "tail" else 0, False), errors


@pytest.mark.parametrize("each", app.registered_commands, ids=COMMANDS)
def test_the_help_of_each_command_has_examples(each: object) -> None:
    documentation = each.callback.__doc__  # type: ignore[attr-defined]
    assert "\n    Examples:\n      mainflux-events " in documentation


async def test_the_commands_are_listed_with_what_they_do() -> None:
    listed = (await command("--help")).output.partition("Commands:")[2]
    assert re.findall(r"^  (\S+) ", listed, re.MULTILINE) == COMMANDS
