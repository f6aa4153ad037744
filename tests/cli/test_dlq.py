"""`mainflux-events dlq`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from commands import ENVIRONMENT, Outcome, command, running
from copies import Fields, held, now, shown
from faults.proxy import proxy_to
from mainflux_events import DeadLetter
from mainflux_events.cli.letters import Filters, filters_of
from mainflux_events.deadletters import dead_letter
from mainflux_events.testing import RedisServer

DEAD = "things:dead"
REMOVED: Fields = [b"operation", b"thing.remove", b"id", b"t1"]
ODD: Fields = [b"operation", b"nobody.knows", b"\xff", b"\x1b[2J"]
CREATED: Fields = [b"operation", b"thing.create", b"id", b"t2"]


async def bury(server: RedisServer) -> list[str]:
    """Three dead letters, of two streams. Gives their IDs."""
    letters = [
        dead_letter(REMOVED, "things", b"1-0", TimeoutError("too long"), 2, "billing"),
        dead_letter(ODD, "things", b"2-0", ValueError("what is this?"), 2, "audit"),
        dead_letter(CREATED, "others", b"3-0", KeyError("t2"), 1, "billing"),
    ]
    return [(await server.command("XADD", DEAD, "*", *letter)).decode() for letter in letters]


@pytest.fixture
async def ids(server: RedisServer) -> list[str]:
    return await bury(server)


def dlq(capture: pytest.CaptureFixture[str], server: RedisServer, what: str, *arguments: str) -> Outcome:
    return shown(capture, "dlq", what, DEAD, *arguments, "--redis", server.url)


def test_they_are_listed_with_where_they_are_from_and_why(
    ids: list[str], server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = dlq(capsys, server, "list", "--json")
    assert [[each[name] for name in ("id", "stream", "entry", "operation", "consumer", "attempts", "error")]
            for each in outcome.json] == [
        [ids[0], "things", "1-0", "thing.remove", "billing", 2, "too long"],
        [ids[1], "things", "2-0", "nobody.knows", "audit", 2, "what is this?"],
        [ids[2], "others", "3-0", "thing.create", "billing", 1, "'t2'"],
    ]  # fmt: skip
    plain = dlq(capsys, server, "list")
    head, first, *_ = plain.lines
    assert head.split() == ["id", "time", "stream", "entry", "operation", "consumer", "attempts", "error"]
    assert first.split()[0] == ids[0]
    assert first.endswith("TimeoutError: too long")
    assert "\x1b" not in plain.output


def test_one_is_shown_with_all_its_fields_and_none_acts_on_the_terminal(
    ids: list[str], server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = dlq(capsys, server, "show", ids[1])
    assert outcome.lines[-2:] == ["  operation: nobody.knows", r"  \udcff: \x1b[2J"]
    [about] = dlq(capsys, server, "show", ids[1], "--json").json
    assert about["fields"] == [["operation", "nobody.knows"], [{"base64": "/w=="}, "\x1b[2J"]]


def test_redriven_they_are_at_the_end_of_their_streams_and_no_dead_letters_any_more(
    ids: list[str], server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = dlq(capsys, server, "redrive", "--yes")
    assert outcome.status == 0
    assert outcome.errors.splitlines()[-1] == "redriven: 3 dead letters"
    assert now(held(server, "things")) == [REMOVED, ODD]
    assert now(held(server, "others")) == [CREATED]
    assert now(held(server, DEAD)) == []


def test_those_that_are_asked_for_go_where_they_are_told_to(
    ids: list[str], server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dlq(capsys, server, "redrive", "--id", ids[2], "--to", "test", "--yes", "--json").json == [
        {"redriven": 1, "failed": 0}
    ]
    assert dlq(capsys, server, "redrive", "--error", "Timeout", "--to", "test", "--yes").status == 0
    assert now(held(server, "test")) == [CREATED, REMOVED]
    assert len(now(held(server, DEAD))) == 1


@pytest.mark.parametrize("what", ["redrive", "drop"])
def test_a_dry_run_says_what_it_would_be_and_does_nothing(
    what: str, ids: list[str], server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = dlq(capsys, server, what, "--dry-run", "--source", "things")
    assert outcome.errors.splitlines() == [
        "2 dead letters of 'things:dead'",
        "  1 of things, thing.remove: TimeoutError",
        "  1 of things, nobody.knows: ValueError",
    ]
    assert {each["count"] for each in dlq(capsys, server, what, "--dry-run", "--json").json} == {1}
    assert len(now(held(server, DEAD))) == 3
    assert now(server.command("EXISTS", "things")) == 0


def test_dropped_they_are_gone(
    ids: list[str], server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dlq(capsys, server, "drop", "--consumer", "billing", "--yes", "--json").json == [{"dropped": 2}]
    assert [each["id"] for each in dlq(capsys, server, "list", "--json").json] == [ids[1]]


def test_what_does_not_say_where_it_is_from_stays(
    server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    now(server.command("XADD", DEAD, "*", "somebody", "else"))
    outcome = dlq(capsys, server, "redrive", "--yes")
    assert outcome.status == 3
    assert "1 dead letter stay" in outcome.errors
    assert now(server.command("XLEN", DEAD)) == 1


async def test_without_a_terminal_it_wants_to_be_told(ids: list[str], server: RedisServer) -> None:
    outcome = await command("dlq", "drop", DEAD, "--redis", server.url)
    assert outcome.status == 2
    assert "--yes" in outcome.errors
    assert len(await held(server, DEAD)) == 3


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("y", 0)])
async def test_on_a_terminal_it_asks(answer: str, left: int, ids: list[str], server: RedisServer) -> None:
    process = await asyncio.create_subprocess_exec(
        "script", "-qec", f"python -m mainflux_events dlq drop {DEAD} --redis {server.url}", "/dev/null",
        env=ENVIRONMENT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate(f"{answer}\n".encode())
    assert b"delete them for good?" in output
    assert process.returncode == (0 if answer == "y" else 1)
    assert len(await held(server, DEAD)) == left


async def test_killed_in_the_middle_and_called_again_each_arrives_once(server: RedisServer) -> None:
    script = """for n = 1, 2000 do
      redis.call('XADD', KEYS[1], '*', 'id', n, 'pad', string.rep('x', 2000), 'dlq_stream', 'things', 'dlq_id', '1-0')
    end"""
    await server.command("EVAL", script, 1, DEAD)
    async with proxy_to(server) as proxy:
        redrive = ("dlq", "redrive", DEAD, "--yes", "--redis", proxy.url())
        held_up = proxy.hold_after(40_000)
        async with running(*redrive) as process:
            await held_up.wait()
            process.kill()
            await process.wait()
    redrive = (*redrive[:-1], server.url)
    assert 0 < await server.command("XLEN", "things") < 2000
    assert (await command(*redrive)).status == 0
    assert [fields[1] for fields in await held(server, "things")] == [b"%d" % n for n in range(1, 2001)]


@pytest.mark.parametrize(
    ("arguments", "status", "what"),
    [
        (("show", DEAD, "9-9"), 1, "no such dead letter"),
        (("show", DEAD, "nine"), 2, "not the ID"),
        (("list", "string"), 1, "WRONGTYPE"),
        (("list", DEAD, "--since", "1-1"), 2, "is no time"),
        (("redrive", DEAD, "--to", DEAD, "--yes"), 1, "dead letters themselves"),
        (("list", DEAD, "--redis", "redis://user:geheim@127.0.0.1:1"), 1, "127.0.0.1:1"),
        (("list", DEAD, "--redis", "redis://user:geheim@127.0.0.1:port"), 2, "cannot be parsed"),
    ],
)
def test_what_cannot_work_is_one_line(
    arguments: tuple[str, ...],
    status: int,
    what: str,
    ids: list[str],
    server: RedisServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAINFLUX_EVENTS_REDIS", server.url)
    now(server.command("SET", "string", ""))
    outcome = shown(capsys, "dlq", *arguments)
    complaint = outcome.errors.splitlines()[-1]
    assert (outcome.status, what in complaint) == (status, True), outcome.errors
    assert "geheim" not in outcome.errors


MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
LETTER = DeadLetter(
    "2-0",
    "things",
    "1-0",
    "thing.remove",
    "TimeoutError",
    "too long",
    2,
    "billing",
    MIDNIGHT,
    ((b"a", b"b"),),
)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        (filters_of(None), True),
        (filters_of(None, operation="thing.remove", source="things", consumer="billing", error="long"), True),
        (filters_of(None, error="Timeout"), True),
        (filters_of(None, operation="thing"), False),
        (filters_of(None, source="others"), False),
        (filters_of(None, consumer="audit"), False),
        (filters_of(None, error="short"), False),
        (filters_of(None, since=MIDNIGHT - MINUTE, until=MIDNIGHT + MINUTE), True),
        (filters_of(None, since=MIDNIGHT + MINUTE), False),
        (filters_of(None, until=MIDNIGHT - MINUTE), False),
        (filters_of(None).up_to("2-0"), True),
        (filters_of(None).up_to("1-9"), False),
    ],
)
def test_what_a_filter_lets_through(filters: Filters, matches: bool) -> None:
    assert filters.matches(LETTER) is matches
