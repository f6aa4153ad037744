"""`mainflux-events streams`."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from commands import called, command
from mainflux_events.cli.streams import show_streams
from mainflux_events.testing import RedisServer


async def test_each_stream_is_shown_with_who_reads_it(server: RedisServer, client: Redis) -> None:
    first = await client.xadd("mainflux.things", {"operation": "thing.remove", "id": "t1"})
    last = await client.xadd("mainflux.things", {"operation": "thing.remove", "id": "t2"})
    await client.xadd("orders", {"operation": "order.placed"}, id="1767225600000-0")
    await client.set("mainflux:cursor:audit:mainflux.things", "0-0")
    await client.set("mainflux:cursor:search:mainflux.things", "0-0")
    await client.set("mainflux:cursor:audit:orders", "0-0")
    await client.xgroup_create("orders", "billing")
    await client.set("no stream", "at all")
    status, _, errors = shown = await called(show_streams(server.url, True))
    assert (status, errors) == (0, "")
    things, orders = shown.json
    assert things["memory"] > 0
    assert [things[name] for name in ("stream", "entries", "first", "last", "subscribers", "groups")] == [
        "mainflux.things", 2, first.decode(), last.decode(), ["audit", "search"], [],
    ]  # fmt: skip
    assert [orders[name] for name in ("stream", "first_time", "last_time", "subscribers", "groups")] == [
        "orders", "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z", ["audit"], ["billing"],
    ]  # fmt: skip


async def test_in_a_pipe_it_is_a_plain_table(server: RedisServer, client: Redis) -> None:
    await client.xadd("orders", {"operation": "order.placed"}, id="1767225600000-0")
    shown = await command("streams", MAINFLUX_EVENTS_REDIS=server.url)
    head, row = shown.lines
    assert head.split() == ["stream", "entries", "memory", "first", "last", "subscribers", "groups"]
    assert row.split()[:2] == ["orders", "1"]
    assert row.split()[-4:] == ["2026-01-01T00:00:00.000Z"] * 2 + ["-"] * 2
    assert "\x1b" not in shown.output


async def test_a_name_that_would_act_on_the_terminal_is_shown_as_text(
    server: RedisServer, client: Redis
) -> None:
    await client.xadd(b"evil\x1b[2J\xff", {"operation": "x"})
    shown = await called(show_streams(server.url, False))
    assert r"evil\x1b[2J\udcff" in shown.output


async def test_without_any_stream_it_says_so(server: RedisServer) -> None:
    shown = await called(show_streams(server.url, False))
    assert shown == (0, "", "there are no streams\n")


@pytest.mark.parametrize("url", ["http://user:geheim@localhost", "redis://user:geheim@localhost:port"])
async def test_a_url_that_cannot_work_is_wrong_usage_and_is_not_repeated(url: str) -> None:
    shown = await command("streams", MAINFLUX_EVENTS_REDIS=url)
    assert (shown.status, "geheim" in shown.complaint) == (2, False)


async def test_missing_rights_are_named(fresh_server: RedisServer) -> None:
    await fresh_server.command("XADD", "orders", "*", "operation", "order.placed")
    await fresh_server.command("ACL", "SETUSER", "default", "-xinfo")
    shown = await command("streams", "--redis", fresh_server.url)
    assert shown.status == 1
    assert "XINFO STREAM" in shown.complaint
    assert "+xinfo|stream" in shown.complaint


async def test_completion_knows_the_commands() -> None:
    shown = await command(
        _MAINFLUX_EVENTS_COMPLETE="complete_bash", COMP_WORDS="mainflux-events str", COMP_CWORD="1"
    )
    assert (shown.status, shown.output) == (0, "streams\n")
