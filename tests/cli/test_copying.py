"""What a copy keeps whatever interrupts it: each entry once, in order, byte for byte."""

from __future__ import annotations

import asyncio

import pytest

from copies import EVERY_KIND, copy, fill, held, ids_of, numbered
from faults.proxy import Direction, proxy_to
from mainflux_events import Backoff, EventsError, StreamGap
from mainflux_events.cli.copying.source import FIRST_ENTRIES
from mainflux_events.testing import RedisServer
from support import wait_until


async def test_every_kind_of_entry_is_copied_as_it_is(server: RedisServer) -> None:
    last = (await fill(server, "source", EVERY_KIND))[-1]
    assert await copy(server.url, server.url, last) == []
    assert await held(server, "target") == EVERY_KIND


async def test_with_their_ids_the_entries_are_the_same(server: RedisServer) -> None:
    ids = await fill(server, "source", EVERY_KIND)
    await copy(server.url, server.url, ids[-1], keep_ids=True)
    assert await ids_of(server, "target") == ids


@pytest.mark.parametrize("wide", [True, False])
async def test_an_id_that_cannot_be_kept_is_an_error_and_nothing_of_it_is_lost(
    wide: bool, server: RedisServer
) -> None:
    ids = await fill(server, "source", [EVERY_KIND[3 if wide else 0]])
    await server.command("XADD", "target", ids[0], "somebody", "else")
    with pytest.raises(EventsError, match="--keep-ids"):
        await copy(server.url, server.url, ids[0], keep_ids=True)
    await server.command("DEL", "target")
    await copy(server.url, server.url, ids[0], keep_ids=True)
    assert await ids_of(server, "target") == ids


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("direction", ["to server", "to client"])
async def test_cut_at_any_byte_and_begun_again_each_arrives_once(
    side: str, direction: Direction, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.cli.copying.target.MOST_WORDS", 8)

    async def fresh() -> str:
        await server.command("FLUSHALL")
        return (await fill(server, "source", some))[-1]

    async def through(url: str, end: str) -> None:
        await copy(url if side == "source" else server.url, url if side == "target" else server.url, end)

    some = [*numbered(2), [b"%d" % number for number in range(10)], *numbered(1)]
    interrupted = 0
    async with proxy_to(server) as proxy:
        await through(proxy.url(), await fresh())
        length = proxy.passed[direction]
    for place in range(1, length, 1 + length // 40):
        end = await fresh()
        async with proxy_to(server) as proxy:
            proxy.cut(direction, place)
            try:
                await through(proxy.url(), end)
            except EventsError:
                interrupted += 1
                await through(proxy.url(), end)
        assert await held(server, "target") == some, f"cut after {place} bytes {direction} of the {side}"
    assert interrupted > 20


@pytest.mark.parametrize("direction", ["to server", "to client"])
async def test_where_outages_are_waited_for_a_cut_at_any_byte_repeats_and_loses_nothing(
    direction: Direction, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainflux_events.cli.copying.target.MOST_WORDS", 8)
    monkeypatch.setattr("mainflux_events.cli.copying.side.Backoff", lambda: Backoff(0.01, 0.02))
    some = [*numbered(2), [b"%d" % number for number in range(10)], *numbered(1)]
    async with proxy_to(server) as proxy:
        await copy(server.url, proxy.url(), (await fill(server, "source", some))[-1])
        length = proxy.passed[direction]
    for place in range(1, length, 1 + length // 60):
        await server.command("FLUSHALL")
        end = (await fill(server, "source", some))[-1]
        async with proxy_to(server) as proxy:
            proxy.cut(direction, place)
            await copy(server.url, proxy.url(), end, persistent=True)
            assert not proxy.cutting
        assert await held(server, "target") == some, f"cut after {place} bytes {direction}"


async def test_what_arrives_late_appends_nothing(server: RedisServer) -> None:
    """The first copy of a step is on its way for so long that the copy goes on without it; then it is delivered."""
    some = numbered(20)
    end = (await fill(server, "source", some))[-1]
    async with proxy_to(server) as proxy:

        def hold(direction: Direction, piece: bytes) -> None:
            if b"XADD" in piece and b"target" in piece and b"NOMKSTREAM" not in piece:
                proxy.tap = None
                proxy.hold()

        proxy.tap = hold
        copying = asyncio.create_task(copy(server.url, proxy.url(), end))
        await wait_until(lambda: proxy.tap is None)
        copying.cancel()
        await asyncio.wait([copying])
        await copy(server.url, server.url, end)
        proxy.release(late=True)
        await wait_until(lambda: not proxy.connections)
    assert await held(server, "target") == some


@pytest.mark.parametrize("alone", [True, False])
async def test_two_at_once_append_nothing_twice(
    alone: bool, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if alone:
        monkeypatch.setattr("mainflux_events.cli.copying.target.MOST_WORDS", 0)
    some = numbered(30 if alone else 5 * FIRST_ENTRIES)
    end = (await fill(server, "source", some))[-1]
    copying = [copy(server.url, server.url, end) for _ in range(3)]
    for outcome in await asyncio.gather(*copying, return_exceptions=True):
        assert outcome == [] or "moved or deleted by somebody else" in str(outcome)
    await copy(server.url, server.url, end)
    assert await held(server, "target") == some


async def test_a_wide_entry_is_tried_again_where_somebody_else_appends_meanwhile(server: RedisServer) -> None:
    end = (await fill(server, "source", [EVERY_KIND[3]]))[-1]
    async with proxy_to(server) as proxy:
        watched = False

        def hold(direction: Direction, piece: bytes) -> None:
            nonlocal watched
            watched = watched or b"WATCH" in piece
            if watched and direction == "to client":
                proxy.tap = None
                proxy.hold()

        proxy.tap = hold
        copying = asyncio.create_task(copy(server.url, proxy.url(), end))
        await wait_until(lambda: proxy.tap is None)
        await server.command("XADD", "target", "*", "somebody", "else")
        proxy.release()
        await copying
    assert await held(server, "target") == [[b"somebody", b"else"], EVERY_KIND[3]]


async def test_a_position_that_somebody_deletes_ends_it(server: RedisServer) -> None:
    end = (await fill(server, "source", numbered(2)))[-1]
    async with proxy_to(server) as proxy:

        def delete(direction: Direction, piece: bytes) -> None:
            if b"XRANGE" in piece:
                proxy.tap = None
                proxy.hold()

        proxy.tap = delete
        copying = asyncio.create_task(copy(proxy.url(), server.url, end))
        await wait_until(lambda: proxy.tap is None)
        assert await server.command("DEL", "mainflux:replay:test:{target}") == 1
        proxy.release()
        with pytest.raises(EventsError, match="moved or deleted by somebody else"):
            await copying
    assert await held(server, "target") == []


async def test_what_was_removed_before_it_was_read_is_told(server: RedisServer) -> None:
    ids = await fill(server, "source", numbered(3))
    await copy(server.url, server.url, ids[0])
    await server.command("XTRIM", "source", "MAXLEN", "1")
    [gap] = await copy(server.url, server.url, ids[2])
    assert isinstance(gap, StreamGap)
    assert (gap.after, gap.next, gap.exact) == (ids[0], ids[2], False)
    assert await held(server, "target") == [numbered(3)[0], numbered(3)[2]]


async def test_without_memory_nothing_is_half_done(
    fresh_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    some = [*numbered(3), EVERY_KIND[3]]
    end = (await fill(fresh_server, "source", some))[-1]
    await copy(fresh_server.url, fresh_server.url, "0-1")  # its position is there
    await fresh_server.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(EventsError, match="OOM"):
        await copy(fresh_server.url, fresh_server.url, end)
    copying = asyncio.create_task(copy(fresh_server.url, fresh_server.url, end, persistent=True))
    await wait_until(lambda: "append_retrying" in caplog.text)
    await fresh_server.command("CONFIG", "SET", "maxmemory", 0)
    await copying
    assert await held(fresh_server, "target") == some
