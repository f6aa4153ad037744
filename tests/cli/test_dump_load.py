"""`mainflux-events dump` and `load`."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from commands import command, running
from copies import EVERY_KIND, fill, held, ids_of, now, numbered, shown
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until


async def test_what_is_dumped_and_loaded_is_the_same_to_the_byte(server: RedisServer, tmp_path: Path) -> None:
    ids = await fill(server, "things", EVERY_KIND)
    dumped = await command("dump", "things", "--redis", server.url)
    assert (dumped.status, dumped.errors) == (0, f"dumped 'things': 5 entries, up to {ids[-1]}\n")
    (tmp_path / "things.jsonl").write_text(dumped.output)
    await server.command("RENAME", "things", "moved")
    loaded = await command(
        "load", "things", str(tmp_path / "things.jsonl"), "--keep-ids", "--redis", server.url
    )
    assert loaded == (0, "", f"loaded into 'things': 5 entries now, up to {ids[-1]}\n")
    assert (await command("dump", "things", "--redis", server.url)).output == dumped.output
    assert await ids_of(server, "things") == ids


def test_a_dump_goes_on_behind_its_last_id(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    ids = now(fill(server, "things", numbered(4)))
    dumped = shown(capsys, "dump", "things", "--redis", server.url, "--since", ids[0], "--until", ids[2])
    assert [line["id"] for line in dumped.json] == ids[1:3]


def test_the_same_lines_are_loaded_once_and_a_file_that_has_grown_from_there_on(
    server: RedisServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    now(fill(server, "things", some := numbered(5)))
    lines = shown(capsys, "dump", "things", "--redis", server.url).output
    part = "".join(lines.splitlines(keepends=True)[:3])
    file = tmp_path / "lines"
    loaded = []
    for given in (part, part, lines):
        file.write_text(given)
        loaded += shown(capsys, "load", "copy", str(file), "--redis", server.url, "--json").json
    assert [each["appended"] for each in loaded] == [3, 0, 2]
    assert now(held(server, "copy")) == some


async def test_killed_in_the_middle_and_begun_again_each_is_there_once(server: RedisServer) -> None:
    lines = [
        json.dumps({"stream": "s", "id": f"{number + 1}-0", "fields": [["n", str(number)]]})
        for number in range(20_000)
    ]
    load = ("load", "copy", "--redis", server.url)

    async def begun() -> bool:
        return bool(await server.command("XLEN", "copy"))

    async with running(*load) as process:
        assert process.stdin is not None
        process.stdin.write("\n".join(lines[:5_000]).encode())
        await wait_until(begun)
        process.kill()
        await process.wait()
    assert 0 < await server.command("XLEN", "copy") < 20_000
    outcome = await command(*load, stdin="\n".join(lines))
    assert (outcome.status, "before" in outcome.errors) == (0, True)
    assert await held(server, "copy") == [[b"n", b"%d" % number] for number in range(20_000)]


def test_a_line_that_is_none_is_named_and_all_before_it_is_loaded(
    server: RedisServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "lines").write_text('{"stream":"s","id":"1-0","fields":[["a","b"]]}\n\n{"geheim"')
    outcome = shown(capsys, "load", "copy", str(tmp_path / "lines"), "--redis", server.url)
    assert outcome.status == 1
    assert "line 3: " in outcome.complaint
    assert "geheim" not in outcome.errors
    assert now(held(server, "copy")) == [[b"a", b"b"]]


def test_where_an_id_cannot_be_kept_what_was_appended_before_it_stays_and_does_not_come_again(
    server: RedisServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = '{"stream":"s","id":"%d-0","fields":[["a","b"]]}\n'
    (tmp_path / "lines").write_text(line % 5 + line % 3)
    for _ in range(2):
        outcome = shown(capsys, "load", "copy", str(tmp_path / "lines"), "--keep-ids", "--redis", server.url)
        assert (outcome.status, "entry 3-0 cannot keep its ID" in outcome.complaint) == (1, True)
        assert now(ids_of(server, "copy")) == ["5-0"]


def test_other_lines_under_the_same_name_are_refused(
    server: RedisServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = '{"stream":"s","id":"%d-0","fields":[["a","b"]]}\n'
    load = ("load", "copy", str(tmp_path / "lines"), "--redis", server.url, "--name", "import")
    outcomes = []
    for second in (line % 1 + line % 2, line % 5, line % 1 + line % 3):
        (tmp_path / "lines").write_text(second)
        outcomes.append(shown(capsys, *load))
    assert [outcome.status for outcome in outcomes] == [0, 1, 1]
    assert all("--name" in outcome.complaint for outcome in outcomes[1:])
    assert now(server.command("XLEN", "copy")) == 2


async def test_no_more_is_read_than_is_appended(server: RedisServer, tmp_path: Path) -> None:
    """While the server is silent, whoever writes into the pipe has to wait."""
    line = b'{"stream":"s","id":"1-0","fields":[["a","%s"]]}\n' % (b"x" * 1000)
    async with running("load", "copy", "--redis", server.url) as process:
        assert process.stdin is not None
        process.stdin.write(line)

        async def begun() -> bool:
            return bool(await server.command("XLEN", "copy"))

        await wait_until(begun)
        await server.command("CLIENT", "PAUSE", 60_000, "WRITE")
        try:
            process.stdin.write(line * 8_000)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process.stdin.drain(), 0.5)
        finally:
            await server.command("CLIENT", "UNPAUSE")
        await process.stdin.drain()


async def test_ctrl_c_ends_it_while_nothing_comes(server: RedisServer) -> None:
    async with running("load", "copy", "--redis", server.url) as process:
        assert process.stdin is not None
        process.stdin.write(b'{"stream":"s","id":"1-0","fields":[["a","b"]]}\n')

        async def begun() -> bool:
            return bool(await server.command("XLEN", "copy"))

        await wait_until(begun)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 130


@pytest.mark.parametrize(
    ("arguments", "status", "what"),
    [
        (("dump", "nothing"), 1, "there is no stream 'nothing'"),
        (("load", "copy", "/nowhere/things.jsonl"), 2, "cannot be read"),
    ],
)
def test_what_cannot_work_is_one_line(
    arguments: tuple[str, ...],
    status: int,
    what: str,
    server: RedisServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = shown(capsys, *arguments, "--redis", server.url)
    assert (outcome.status, what in outcome.complaint) == (status, True), outcome.errors


def test_nothing_to_load_is_said(server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = shown(capsys, "load", "copy", "/dev/null", "--redis", server.url)
    assert outcome == (0, "", "there was nothing to load\n")
