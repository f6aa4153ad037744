"""`mainflux-events publish`."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from commands import command, running
from mainflux_events import AUTH_STREAM, THINGS_STREAM, Event, Identity, ThingCreated
from mainflux_events.cli.app import run
from mainflux_events.cli.publish import Tally
from mainflux_events.cli.stdin import Lines
from mainflux_events.testing import RedisServer
from mainflux_events.wire import decode
from support import wait_until


async def events_on(client: Redis, stream: str = THINGS_STREAM) -> list[Event]:
    entries = await client.execute_command("XRANGE", stream, "-", "+", NEVER_DECODE=True)
    return [decode([part for pair in fields.items() for part in pair]) for _, fields in entries]


def line(**event: object) -> str:
    return json.dumps({"operation": "thing.remove", "action": {"id": "t1"}} | event) + "\n"


# ---- from arguments


async def test_an_action_from_arguments_is_published_and_its_entry_named(
    server: RedisServer, client: Redis
) -> None:
    shown = await command(
        "publish", "thing.create", "id=t1", "group_id=g1", "profile_id=p1", "name=7", 'metadata={"a": [1]}',
        "--org", "o1", "--group", "g2", "--user", "u1", "--email", "u1@example.com", "--at", "2026-01-01T00:00Z",
        "--redis", server.url,
    )  # fmt: skip
    [(id, _)] = await client.xrange(THINGS_STREAM)
    assert shown == (0, f"{id.decode()}\n", "")
    assert await events_on(client) == [
        Event(
            ThingCreated(id="t1", group_id="g1", profile_id="p1", name="7", metadata={"a": [1]}),
            Identity("u1", "u1@example.com"),
            "o1",
            "g2",
            datetime(2026, 1, 1, tzinfo=UTC),
        )
    ]


async def test_an_action_of_ones_own_is_known_by_its_module_and_needs_a_stream(
    server: RedisServer, client: Redis, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        "from mainflux_events import Action\n\nclass Placed(Action, tag='order.placed'):\n    lines: list[int]\n"
    )
    arguments = ("publish", "--import", "shop", "order.placed", "lines=[1, 2]", "--redis", server.url)
    shown = await command(*arguments, cwd=str(tmp_path))
    assert (shown.status, "--stream" in shown.complaint) == (2, True)
    shown = await command(*arguments, "--stream", "orders", cwd=str(tmp_path))
    assert (shown.status, shown.errors) == (0, "")
    [(_, fields)] = await client.xrange("orders")
    assert fields[b"lines"] == b"[1,2]"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("thing.explode", "id=t1"), "operation: one of these is wanted"),
        (("thing.remove", "id=geheim", "nmae=geheim"), "has no field 'nmae'"),
        (("group.remove", "id=g1", "thing_ids=geheim"), "thing_ids: JSON is wanted"),
        (("--org", "o1"), "events from stdin have their own"),
    ],
)
def test_an_action_that_is_none_is_wrong_usage_and_is_not_repeated(
    arguments: tuple[str, ...], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", *arguments]) == 2
    told = capsys.readouterr().err
    assert what in told
    assert "geheim" not in told


# ---- from stdin


async def test_events_from_stdin_go_to_the_platforms_streams_in_their_order(
    server: RedisServer, client: Redis
) -> None:
    lines = [line(action={"id": str(number)}) for number in range(3000)]
    lines.insert(7, line(operation="org.remove", org_id="o1", identity={"id": "u1", "email": ""}))
    lines.insert(8, "\n")
    shown = await command("publish", "--redis", server.url, stdin="".join(lines))
    assert shown == (0, "", "3,001 acknowledged\n")
    things = [fields[b"id"] for _, fields in await client.xrange(THINGS_STREAM)]
    assert things == [b"%d" % number for number in range(3000)]
    [org] = await events_on(client, AUTH_STREAM)
    assert (org.org_id, org.identity) == ("o1", Identity("u1"))


async def test_nothing_is_trimmed(server: RedisServer, client: Redis) -> None:
    await client.eval("for i = 1, 100200 do redis.call('XADD', KEYS[1], '*', 'a', 'b') end", 1, THINGS_STREAM)
    await command("publish", "--redis", server.url, stdin=line())
    assert await client.xlen(THINGS_STREAM) == 100_201


async def test_each_line_that_is_no_event_is_told_and_the_others_are_published(
    server: RedisServer, client: Redis
) -> None:
    wrong = {
        "geheim\n": "no JSON: Expecting value",
        "[" * 100_000 + "\n": "no JSON: it is too deep",
        '"geheim"\n': "a JSON object is wanted",
        line(password="geheim"): "'password' is no part of an event",
        line(operation="geheim"): "operation: one of these is wanted",
        line(action={"id": 7}): "Expected `str`, got `int` - at `$.id`",
        line(action={"id": "t1", "key": "geheim"}): "thing.remove has no field 'key'",
        line(action="geheim"): "action: a JSON object is wanted",
        line(occurred_at="2026-01-01T00:00:00"): "it has no time zone",
        line(action={"id": "\ud800"}): "field 'id'",
        line(error="it does not decode"): "it is no event",
    }
    given = "".join(f"{each}{line()}" for each in wrong)
    shown = await command("publish", "--redis", server.url, stdin=given)
    told = shown.errors.splitlines()
    assert (shown.status, await client.xlen(THINGS_STREAM)) == (3, len(wrong))
    assert told.pop() == f"{len(wrong)} acknowledged, {len(wrong)} lines were no events"
    for number, (each, reason) in enumerate(zip(told, wrong.values(), strict=True)):
        assert each.startswith(f"line {2 * number + 1}: ")
        assert reason in each
    assert "geheim" not in shown.errors


async def test_where_no_line_is_an_event_the_status_is_1(server: RedisServer) -> None:
    shown = await command("publish", "--redis", server.url, stdin="nonsense\n")
    assert (shown.status, shown.errors.splitlines()[-1]) == (1, "0 acknowledged, 1 lines were no events")


async def test_what_comes_slowly_is_published_as_it_comes(server: RedisServer, client: Redis) -> None:
    async with running("publish", "--redis", server.url) as process:
        assert process.stdin is not None
        process.stdin.write(line().encode())
        await wait_until(lambda: client.exists(THINGS_STREAM), 40)
        process.stdin.write(line().encode()[:-1])  # and the end of a file without an end of the line
        process.stdin.write_eof()
        _, errors = await process.communicate()
    assert errors == b"2 acknowledged\n"


async def test_a_signal_ends_it_when_what_was_read_is_acknowledged(
    server: RedisServer, client: Redis
) -> None:
    async with running("publish", "--redis", server.url) as process:
        assert process.stdin is not None
        process.stdin.write(line().encode() * 10)
        await wait_until(lambda: client.exists(THINGS_STREAM), 40)
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert process.returncode == 130
    assert errors.decode().splitlines() == ["10 acknowledged", "mainflux-events: interrupted"]
    assert await client.xlen(THINGS_STREAM) == 10


async def test_what_the_server_does_not_take_waits_and_is_told(fresh_server: RedisServer) -> None:
    await fresh_server.command("CONFIG", "SET", "maxmemory", "1")
    async with running("publish", "--redis", fresh_server.url) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(line().encode() * 100)
        process.stdin.write_eof()
        assert b"OOM" in await process.stderr.readline()
        await fresh_server.command("CONFIG", "SET", "maxmemory", "0")
        _, errors = await process.communicate()
    assert process.returncode == 0
    assert errors.decode().splitlines()[-1] == "100 acknowledged"


async def test_what_is_given_up_at_the_end_is_told_and_counted(fresh_server: RedisServer) -> None:
    await fresh_server.command("CONFIG", "SET", "maxmemory", "1")
    async with running("publish", "--redis", fresh_server.url) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(line().encode() * 3)
        assert b"OOM" in await process.stderr.readline()
        await fresh_server.kill()
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 40)
    told = errors.decode().splitlines()
    assert process.returncode == 130
    assert [each for each in told if each.startswith("not acknowledged: thing.remove: ")] == [told[-3]] * 3
    assert told[-2:] == ["0 acknowledged, 3 not acknowledged", "mainflux-events: interrupted"]


async def test_a_server_that_is_not_there_is_told_before_anything_is_read() -> None:
    shown = await command("publish", "--redis", "redis://user:geheim@127.0.0.1:1", stdin=line())
    assert shown.status == 1
    assert "cannot be reached" in shown.errors
    assert "geheim" not in shown.errors


# ---- decisions


@pytest.mark.parametrize(
    ("accepted", "lost", "refused", "status"),
    [(0, 0, 0, 0), (5, 0, 0, 0), (5, 0, 1, 3), (5, 1, 0, 3), (5, 5, 0, 1), (0, 0, 1, 1)],
)
def test_the_status_says_whether_all_some_or_nothing_was_acknowledged(
    accepted: int, lost: int, refused: int, status: int
) -> None:
    tally = Tally()
    tally.accepted, tally.lost, tally.refused = accepted, lost, refused
    assert tally.status == status


def test_lines_are_cut_wherever_the_chunks_are() -> None:
    given = b'{"a": 1}\n\n  \nsecond\r\n' + "ü\n".encode() + b"\xff\nno end"
    expected = [(1, '{"a": 1}'), (4, "second"), (5, "ü"), (6, "\udcff"), (7, "no end")]
    for size in range(1, len(given) + 1):
        lines = Lines()
        chunks = [given[begins : begins + size] for begins in range(0, len(given), size)]
        assert [each for chunk in [*chunks, b""] for each in lines.feed(chunk)] == expected


def test_a_line_that_is_too_long_is_none_and_the_next_is_read() -> None:
    lines = Lines(longest=5)
    chunks = [b"12345\n123", b"456", b"78", b"\nnext\n", b""]
    assert [each for chunk in chunks for each in lines.feed(chunk)] == [(1, "12345"), (2, None), (3, "next")]
