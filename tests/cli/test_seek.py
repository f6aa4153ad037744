"""`mainflux-events seek`: the one way, besides a reported reset, for a cursor to move back."""

from __future__ import annotations

import os
import pty
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from commands import Outcome, called, command, running
from mainflux_events import EventsError, GroupSubscriber, Subscriber
from mainflux_events.cli.seek import show_seek
from mainflux_events.testing import RedisServer

THINGS = "mainflux.things"
CURSOR = f"mainflux:cursor:audit:{THINGS}"
BEGAN = 1_767_225_600_000  # 2026-01-01T00:00Z
LAST_OF_MS = 2**64 - 1


@pytest.fixture
async def ids(client: Redis) -> list[str]:
    """The IDs of ten entries, one a second; `audit` has handled the first six, and the group `billing` nothing."""
    ids = [f"{BEGAN + 1000 * number}-0" for number in range(10)]
    for id in ids:
        await client.xadd(THINGS, {"operation": "thing.remove", "id": "t1"}, id=id)
    await client.set(CURSOR, ids[5])
    await client.xgroup_create(THINGS, "billing", "0")
    return ids


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second is waited for a reader to show itself."""
    monkeypatch.setattr("mainflux_events.cli.seek.LOOKED_AT", 0.0)


async def seek(
    server: RedisServer,
    name: str,
    to: Any,
    streams: Sequence[str] = (THINGS,),
    *,
    group: bool = False,
    dry_run: bool = False,
    yes: bool = True,
) -> Outcome:
    return await called(show_seek(server.url, name, to, streams, group=group, dry_run=dry_run, yes=yes))


async def stored(client: Redis) -> str:
    found = await client.get(CURSOR)
    return found.decode() if found else ""


async def test_a_subscriber_that_was_moved_back_handles_again_from_there(
    server: RedisServer, client: Redis, ids: list[str]
) -> None:
    shown = await seek(server, "audit", ids[2])
    assert shown.status == 0
    assert shown.lines == [
        f"subscriber audit of {THINGS}: from {ids[5]} to {ids[2]}: back, 3 entries will be handled again",
        f"subscriber audit of {THINGS} is at {ids[2]} now",
    ]
    async with Subscriber(server.url, THINGS, "audit") as subscriber:
        assert (await anext(aiter(subscriber))).id == ids[3]


@pytest.mark.parametrize(
    ("to", "lands", "outcome"),
    [
        ("earliest", "0-0", "back, 6 entries will be handled again"),
        ("new", f"{BEGAN + 9000}-0", "forward, 4 entries will not be handled"),
        (f"{BEGAN + 6000}-0", f"{BEGAN + 6000}-0", "forward, 1 entry will not be handled"),
        (
            datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC),
            f"{BEGAN + 2999}-{LAST_OF_MS}",
            "back, 3 entries will be handled again",
        ),
        (f"{BEGAN + 5000}-0", f"{BEGAN + 5000}-0", "it is there already"),
    ],
)
async def test_it_lands_where_it_was_told_to(
    to: object, lands: str, outcome: str, server: RedisServer, client: Redis, ids: list[str]
) -> None:
    shown = await seek(server, "audit", to)
    assert (shown.status, await stored(client)) == (0, lands)
    assert outcome in shown.lines[0]


async def test_a_dry_run_says_the_same_and_moves_nothing(
    server: RedisServer, client: Redis, ids: list[str]
) -> None:
    shown = await seek(server, "audit", "earliest", dry_run=True, yes=False)
    assert shown.status == 0
    assert shown.lines == [
        f"subscriber audit of {THINGS}: from {ids[5]} to 0-0: back, 6 entries will be handled again"
    ]
    assert await stored(client) == ids[5]


async def test_all_streams_that_the_subscriber_has_read_are_moved(
    server: RedisServer, client: Redis, ids: list[str]
) -> None:
    await client.set("mainflux:cursor:audit:mainflux.auth", "5-0")
    await client.xadd("mainflux.auth", {"operation": "org.remove", "id": "o1"}, id="5-0")
    await seek(server, "audit", "earliest", (THINGS, "mainflux.auth", "not there"))
    assert await client.mget(CURSOR, "mainflux:cursor:audit:mainflux.auth") == [b"0-0", b"0-0"]
    assert not await client.exists("mainflux:cursor:audit:not there")


async def test_a_cursor_that_is_no_id_is_mended(server: RedisServer, client: Redis, ids: list[str]) -> None:
    await client.set(CURSOR, "nonsense")
    shown = await seek(server, "audit", ids[2])
    assert "what is stored is no place" in shown.output
    assert await stored(client) == ids[2]


@pytest.mark.parametrize(
    ("name", "to", "group", "what"),
    [
        ("nobody", "new", False, "there is no cursor 'nobody'"),
        ("nobody", "new", True, "there is no consumer group 'nobody'"),
        ("audit", "9999999999999-0", False, "to go to its end, say new"),
        ("billing", "9999999999999-0", True, "to go to its end, say new"),
    ],
)
async def test_what_cannot_be_is_refused(
    name: str, to: str, group: bool, what: str, server: RedisServer, client: Redis, ids: list[str]
) -> None:
    keys = set(await client.keys())
    with pytest.raises(EventsError, match=what):
        await seek(server, name, to, group=group)
    assert (await stored(client), set(await client.keys())) == (ids[5], keys)


# ---- whoever reads meanwhile


@pytest.mark.parametrize("exclusive", [True, "standby"])
async def test_while_a_reader_has_a_lease_nothing_is_moved(
    exclusive: Any, server: RedisServer, client: Redis, ids: list[str]
) -> None:
    async with Subscriber(server.url, THINGS, "audit", exclusive=exclusive):
        shown = await seek(server, "audit", "earliest")
        assert (shown.status, await stored(client)) == (1, ids[5])
    assert "end all of them first" in shown.errors
    assert (await seek(server, "audit", "earliest")).status == 0
    assert await stored(client) == "0-0"


async def test_while_a_reader_moves_the_cursor_nothing_is_moved(
    server: RedisServer, client: Redis, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy_reader(_seconds: float) -> None:
        async with Subscriber(server.url, THINGS, "audit") as subscriber:
            await subscriber.commit(await anext(aiter(subscriber)))

    monkeypatch.setattr("mainflux_events.cli.seek.anyio.sleep", busy_reader)
    shown = await seek(server, "audit", "earliest")
    assert (shown.status, await stored(client)) == (1, ids[6])
    assert "somebody reads" in shown.errors


async def test_while_a_consumer_is_there_its_group_is_not_moved(
    server: RedisServer, client: Redis, ids: list[str]
) -> None:
    async with GroupSubscriber(server.url, THINGS, "billing", consumer="one", start="earliest") as group:
        for _ in range(3):
            await group.commit(await anext(aiter(group)))
        shown = await seek(server, "billing", "earliest", group=True)
        assert shown.status == 1
    assert "the consumer one asked for entries less than 5 s ago" in shown.errors


async def test_a_group_whose_consumers_are_gone_is_moved(
    server: RedisServer, client: Redis, ids: list[str]
) -> None:
    async with GroupSubscriber(server.url, THINGS, "billing", start="earliest") as group:
        for id in ids[:3]:
            event = await anext(aiter(group))
            assert event.id == id
            await group.commit(event)
    shown = await seek(server, "billing", ids[0], group=True)
    assert (shown.status, shown.errors) == (0, "")
    async with GroupSubscriber(server.url, THINGS, "billing") as group:
        seen = set()
        async for event in group:
            seen.add(event.id)
            if len(seen) == 9:
                break
    assert seen == set(ids[1:])


async def test_where_one_of_two_streams_is_not_moved_the_status_is_3(
    server: RedisServer, client: Redis, ids: list[str]
) -> None:
    await client.set("mainflux:cursor:audit:orders", "5-0")
    await client.xadd("orders", {"operation": "order.placed"}, id="5-0")
    async with Subscriber(server.url, "orders", "audit", exclusive=True):
        shown = await seek(server, "audit", "earliest", (THINGS, "orders"))
    assert shown.status == 3
    assert "subscriber audit of orders was not moved" in shown.errors
    assert (await stored(client), await client.get("mainflux:cursor:audit:orders")) == ("0-0", b"5-0")


# ---- as a process


async def test_without_a_terminal_to_ask_at_it_has_to_be_told(
    server: RedisServer, client: Redis, ids: list[str]
) -> None:
    shown = await command("seek", "audit", "earliest", "--redis", server.url)
    assert (shown.status, "--yes" in shown.errors) == (2, True)
    assert await stored(client) == ids[5]


async def test_yes_on_the_command_line_is_enough(server: RedisServer, client: Redis, ids: list[str]) -> None:
    shown = await command("seek", "audit", "2026-01-01T00:00:01Z", "--yes", MAINFLUX_EVENTS_REDIS=server.url)
    assert shown.status == 0
    assert await stored(client) == f"{BEGAN + 999}-{LAST_OF_MS}"


async def test_whoever_says_no_has_moved_nothing(server: RedisServer, client: Redis, ids: list[str]) -> None:
    main, terminal = pty.openpty()
    try:
        async with running("seek", "audit", "earliest", "--redis", server.url, stdin=terminal) as process:
            os.write(main, b"n\n")
            output, errors = await process.communicate()
        assert process.returncode == 1
    finally:
        os.close(main)
        os.close(terminal)
    assert b"back, 6 entries" in output
    assert b"Move? [y/N]" in errors
    assert await stored(client) == ids[5]


async def test_a_signal_ends_the_question(server: RedisServer, client: Redis, ids: list[str]) -> None:
    main, terminal = pty.openpty()
    try:
        async with running("seek", "audit", "earliest", "--redis", server.url, stdin=terminal) as process:
            assert process.stderr is not None
            await process.stderr.readuntil(b"[y/N] ")
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
        assert (process.returncode, errors) == (130, b"mainflux-events: interrupted\n")
    finally:
        os.close(main)
        os.close(terminal)
    assert await stored(client) == ids[5]


async def test_a_place_that_is_none_is_wrong_usage() -> None:
    shown = await command("seek", "audit", "yesterday")
    assert (shown.status, "'yesterday' is none of" in shown.complaint) == (2, True)
