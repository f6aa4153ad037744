"""`mainflux-events replay`."""

from __future__ import annotations

import asyncio

import pytest

from commands import ENVIRONMENT, command, running
from copies import EVERY_KIND, fill, held, ids_of, now, numbered, shown
from faults.proxy import proxy_to
from mainflux_events.testing import RedisServer, redis_server


def test_a_stream_is_copied_once_however_often_that_is_called(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = now(fill(server, "things", EVERY_KIND))
    replay = ("replay", "things", "again", "--redis", server.url)
    assert shown(capsys, *replay) == (
        0,
        "",
        f"replayed 'things' into 'again': 5 entries now, up to {ids[-1]}\n",
    )
    second = shown(capsys, *replay, "--json")
    assert second.json == [{"appended": 0, "total": 5, "last": ids[-1], "gaps": 0, "missed": 0}]
    assert now(held(server, "again")) == EVERY_KIND
    assert shown(capsys, *replay, "--again").status == 0
    assert now(held(server, "again")) == EVERY_KIND * 2


def test_a_range_is_what_is_behind_the_first_id_up_to_the_second(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = now(fill(server, "things", some := numbered(5)))
    bounds = ("--since", ids[0], "--until", ids[3])
    assert shown(capsys, "replay", "things", "again", "--redis", server.url, *bounds).status == 0
    assert now(held(server, "again")) == some[1:4]


def test_a_range_of_time_ends_with_the_millisecond(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for id in ("1767225599999-0", "1767225600000-0", "1767225600000-7", "1767225600001-0"):
        now(server.command("XADD", "things", id, "id", id))
    bounds = ("--since", "2026-01-01T00:00Z", "--until", "2026-01-01T00:00Z", "--keep-ids")
    assert shown(capsys, "replay", "things", "again", "--redis", server.url, *bounds).status == 0
    assert now(ids_of(server, "again")) == ["1767225600000-0", "1767225600000-7"]


async def test_to_another_server_with_its_own_url(server: RedisServer) -> None:
    ids = await fill(server, "things", numbered(3))
    async with redis_server() as other:
        outcome = await command(
            "replay", "things", "things", "--keep-ids",
            MAINFLUX_EVENTS_REDIS=server.url, MAINFLUX_EVENTS_TO_REDIS=other.url,
        )  # fmt: skip
        assert outcome.status == 0
        assert await ids_of(other, "things") == ids


async def test_killed_again_and_again_each_entry_is_there_once_and_in_order(server: RedisServer) -> None:
    some = numbered(30_000)
    script = "for n = 0, 29999 do redis.call('XADD', KEYS[1], '*', 'operation', 'thing.remove', 'id', n) end"
    await server.command("EVAL", script, 1, "things")
    there = []
    async with proxy_to(server) as proxy:
        replay = ("replay", "things", "again", "--redis", proxy.url(), "--until", "new")
        for _ in range(3):
            held_up = proxy.hold_after(500_000)
            async with running(*replay) as process:
                await held_up.wait()
                process.kill()
                await process.wait()
            proxy.release()
            there.append(await server.command("XLEN", "again"))
        outcome = await command(*replay)
    assert outcome.status == 0
    assert await held(server, "again") == some
    assert 0 < there[0] < there[1] < there[2] < len(some)


def test_entries_that_were_removed_before_they_were_read_are_told_by_the_status(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = now(fill(server, "things", some := numbered(3)))
    replay = ("replay", "things", "again", "--redis", server.url)
    assert shown(capsys, *replay).status == 0
    # As if it had been interrupted behind the first entry.
    [key] = now(server.command("KEYS", "mainflux:replay:*"))
    what = now(server.command("GET", key)).split(b" ", 2)[2]
    now(server.command("SET", key, b"1 %b %b" % (ids[0].encode(), what)))
    now(server.command("XTRIM", "again", "MAXLEN", "1"))
    now(server.command("XTRIM", "things", "MAXLEN", "1"))
    outcome = shown(capsys, *replay)
    assert outcome.status == 3
    assert f"between {ids[0]} and {ids[2]}" in outcome.errors
    assert now(held(server, "again")) == [some[2], some[2]]


@pytest.mark.parametrize(
    ("arguments", "status", "what"),
    [
        (("things", "things"), 1, "copied to itself"),
        (("nothing", "again"), 1, "there is no stream 'nothing'"),
        (("things", "string"), 1, "holds a string"),
        (("things", "again", "--name", "a:b"), 1, "--name"),
        (("things", "again", "--since", "yesterday"), 2, "yesterday"),
        (("things", "again", "--until", "earliest"), 2, "--until"),
        (("things", "again", "--to-redis", "http://user:geheim@localhost"), 2, "--to-redis"),
        (("things", "again", "--to-redis", "redis://user:geheim@127.0.0.1:1"), 1, "127.0.0.1:1"),
    ],
)
def test_what_cannot_work_is_one_line(
    arguments: tuple[str, ...],
    status: int,
    what: str,
    server: RedisServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now(fill(server, "things", numbered(1)))
    now(server.command("SET", "string", ""))
    outcome = shown(capsys, "replay", *arguments, "--redis", server.url)
    assert (outcome.status, what in outcome.complaint) == (status, True), outcome.errors
    assert "geheim" not in outcome.errors


async def test_on_a_terminal_there_is_a_bar_and_none_without_colours(server: RedisServer) -> None:
    await fill(server, "things", numbered(3))
    for variables, seen in (({}, True), ({"NO_COLOR": "1"}, False)):
        process = await asyncio.create_subprocess_exec(
            "script", "-qec", f"python -m mainflux_events replay things again --again --redis {server.url}",
            "/dev/null", env=ENVIRONMENT | variables, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert ("━".encode() in output, b"\x1b" in output) == (seen, seen)
        assert b"3 entries now" in output
