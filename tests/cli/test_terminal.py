"""`top` and `tail` in a real terminal."""

from __future__ import annotations

import signal

import pytest
from redis.asyncio import Redis

from mainflux_events.testing import RedisServer, redis_server
from terminal import ALTERNATE_SCREEN, terminal

THINGS = "mainflux.things"


@pytest.fixture
async def things(client: Redis) -> None:
    """A stream with three entries, and somebody who reads it."""
    for _ in range(3):
        await client.xadd(THINGS, {"operation": "thing.remove", "id": "t1"})
    await client.set(f"mainflux:cursor:audit:{THINGS}", "0-0")


async def test_top_takes_the_whole_screen_until_q_is_pressed(server: RedisServer, things: None) -> None:
    async with terminal("top", "--redis", server.url) as screen:
        await screen.shows("q: quit")
        assert "audit   subscriber  mainflux.things" in screen.text
        assert screen.lines[0].startswith("redis at ")
        assert not screen.as_it_was
        screen.press("xq")
        assert await screen.ended() == 0
        assert screen.as_it_was
        assert ALTERNATE_SCREEN + b"h" in screen.written


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
async def test_top_that_is_interrupted_leaves_the_terminal_as_it_was(
    how: str, server: RedisServer, things: None
) -> None:
    async with terminal("top", "--redis", server.url) as screen:
        await screen.shows("q: quit")
        if how == "Ctrl-C":
            screen.press("\x03")
        else:
            screen.process.send_signal(signal.Signals[how])
        assert await screen.ended() == 130
        assert screen.as_it_was
        assert screen.written.endswith(b"mainflux-events: interrupted\r\n")


async def test_top_follows_what_changes(server: RedisServer, client: Redis, things: None) -> None:
    async with terminal("top", "--redis", server.url) as screen:
        await screen.shows("audit   subscriber  mainflux.things               3")
        await client.xadd(THINGS, {"operation": "thing.remove", "id": "t1"})
        await screen.shows("audit   subscriber  mainflux.things               4")


async def test_top_is_painted_anew_at_once_where_the_terminal_changes_its_size(
    fresh_server: RedisServer,
) -> None:
    await fresh_server.command("XADD", THINGS, "*", "operation", "thing.remove")
    await fresh_server.command("SET", f"mainflux:cursor:audit:{THINGS}", "0-0")
    async with terminal("top", "--redis", fresh_server.url, columns=120, lines=30) as screen:
        await screen.shows("q: quit")
        assert "idle" in screen.text
        fresh_server.hang()  # so that no new look paints it
        screen.resize(60, 12)
        await screen.shows("audit   subscriber  mainflux.things")
        assert "idle" not in screen.text
        screen.resize(150, 40)
        await screen.shows("idle")
        assert "trying again" not in screen.text


async def test_top_rides_out_an_outage_and_says_so() -> None:
    async with redis_server(aof=True) as server:
        await server.command("XADD", THINGS, "*", "operation", "thing.remove")
        async with terminal("top", "--redis", server.url) as screen:
            await screen.shows("q: quit")
            await server.kill()
            await screen.shows("trying again")
            await server.restart()
            await screen.shows("clients")
            screen.press("q")
            assert await screen.ended() == 0


async def test_top_that_may_not_look_leaves_the_terminal_and_says_why(fresh_server: RedisServer) -> None:
    await fresh_server.command("XADD", THINGS, "*", "operation", "thing.remove")
    await fresh_server.command("ACL", "SETUSER", "default", "-xinfo")
    async with terminal("top", "--redis", fresh_server.url) as screen:
        assert await screen.ended() == 1
        assert screen.as_it_was
        assert b"+xinfo|stream" in screen.written


async def test_tail_is_coloured_in_a_terminal_and_ends_with_ctrl_c(server: RedisServer, things: None) -> None:
    async with terminal("tail", "--since", "earliest", "--redis", server.url) as screen:
        await screen.shows("thing.remove  id=t1")
        assert b"\x1b[1;31mthing.remove" in screen.written
        screen.press("\x03")
        assert await screen.ended() == 130
        assert screen.as_it_was


async def test_tail_is_plain_where_colours_are_not_wanted(server: RedisServer, things: None) -> None:
    async with terminal("tail", "--since", "earliest", "--redis", server.url, NO_COLOR="1") as screen:
        await screen.shows("thing.remove  id=t1")
        assert b"\x1b" not in screen.written


async def test_a_long_event_is_shown_whole(server: RedisServer, client: Redis) -> None:
    await client.xadd(THINGS, {"operation": "thing.remove", "id": "t" * 200 + "end"})
    async with terminal("tail", "--since", "earliest", "--redis", server.url, columns=80) as screen:
        await screen.shows("end")


async def test_publish_shows_its_progress(server: RedisServer) -> None:
    async with terminal("publish", "--redis", server.url) as screen:
        screen.press('{"operation": "thing.remove", "action": {"id": "t1"}}\n')
        await screen.shows("published 1, ")
        screen.press("\x04")
        assert await screen.ended() == 0
        assert screen.as_it_was
        assert "1 acknowledged" in screen.text
