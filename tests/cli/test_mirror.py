"""`mainflux-events mirror`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from commands import command, running
from copies import Fields, fill, held, ids_of, numbered
from mainflux_events.testing import RedisServer, redis_server
from support import wait_until


def holds(server: RedisServer, stream: str, entries: list[Fields]) -> Callable[[], Coroutine[Any, Any, bool]]:
    """Whether a stream is just this."""

    async def look() -> bool:
        return await held(server, stream) == entries

    return look


def reads_on(server: RedisServer) -> Callable[[], Coroutine[Any, Any, bool]]:
    """Whether somebody waits for what comes into a stream."""

    async def look() -> bool:
        return b" flags=b" in await server.command("CLIENT", "LIST")

    return look


async def test_it_goes_on_with_what_comes_until_it_is_interrupted(server: RedisServer) -> None:
    some = numbered(4)
    await fill(server, "things", some[:2])
    async with running("mirror", "things", "copy", "--redis", server.url) as process:
        await wait_until(holds(server, "copy", some[:2]))
        last = (await fill(server, "things", some[2:]))[-1]
        await wait_until(holds(server, "copy", some))
        await wait_until(reads_on(server))  # so it has heard that all is appended
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
    begun, caught_up, summary, end = errors.decode().splitlines()
    assert begun == "mirroring 'things' into 'copy', behind 0-0"
    assert caught_up.startswith("caught up: ")
    assert summary == f"mirrored 'things' into 'copy': 4 entries now, up to {last}"
    assert (end, output, process.returncode) == ("mainflux-events: interrupted", b"", 130)


async def test_killed_it_goes_on_where_it_was(server: RedisServer) -> None:
    some = numbered(6)
    async with redis_server() as other:
        mirror = ("mirror", "things", "--redis", server.url, "--to-redis", other.url, "--keep-ids")
        ids = []
        for part in (some[:2], some[2:4], some[4:]):
            ids += await fill(server, "things", part)
            async with running(*mirror) as process:
                await wait_until(holds(other, "things", some[: len(ids)]))
                process.kill()
        assert await ids_of(other, "things") == ids


async def test_it_waits_for_either_server_and_loses_and_repeats_nothing(server: RedisServer) -> None:
    some = numbered(6)
    async with redis_server(aof=True) as source, redis_server(aof=True) as target:
        await fill(source, "things", some[:2])
        async with running("mirror", "things", "--redis", source.url, "--to-redis", target.url):
            await wait_until(holds(target, "things", some[:2]))
            await target.kill()
            await fill(source, "things", some[2:4])
            await target.restart()
            await wait_until(holds(target, "things", some[:4]))
            await source.kill()
            await source.restart()
            await fill(source, "things", some[4:])
            await wait_until(holds(target, "things", some))


async def test_a_stream_that_is_deleted_is_told_and_the_new_one_is_copied(server: RedisServer) -> None:
    some = numbered(3)
    await fill(server, "things", some[:2])
    async with running("mirror", "things", "copy", "--redis", server.url) as process:
        await wait_until(holds(server, "copy", some[:2]))
        await server.command("DEL", "things")
        await server.command("XADD", "things", "1-1", *some[2])
        await wait_until(holds(server, "copy", some))
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert "was deleted, recreated or restored" in errors.decode()


async def test_a_position_of_another_source_is_not_taken(server: RedisServer) -> None:
    some = numbered(2)
    await fill(server, "things", some)
    async with redis_server() as other:
        moved = ("mirror", "things", "--redis", server.url, "--to-redis", other.url)
        async with running(*moved) as process:
            await wait_until(holds(other, "things", some))
            process.kill()
        key = "mainflux:mirror:things:{things}"
        stored = await other.command("GET", key)
        await other.command(
            "SET", key, stored.partition(b" redis at ")[0] + b" redis at elsewhere:6379 things"
        )
        shown = await command(*moved)
        assert shown.status == 1
        assert "--source-moved" in shown.complaint
        async with running(*moved, "--source-moved", "--json") as process:
            assert process.stdout is not None
            assert b'"behind": 0.0' in await process.stdout.readline()
            await fill(server, "things", numbered(1))
            await wait_until(holds(other, "things", some + numbered(1)))


@pytest.mark.parametrize("variable", ["MAINFLUX_EVENTS_REDIS", "MAINFLUX_EVENTS_TO_REDIS"])
async def test_a_wrong_password_ends_it_at_the_start_and_is_not_shown(
    variable: str, server: RedisServer
) -> None:
    async with redis_server(tcp=True, password="right") as locked:
        urls = {"MAINFLUX_EVENTS_REDIS": server.url, "MAINFLUX_EVENTS_TO_REDIS": server.url}
        urls[variable] = locked.url.replace("right", "geheim")
        shown = await command("mirror", "things", "copy", **urls)
    assert shown.status == 1
    assert "password" in shown.complaint
    assert "geheim" not in shown.errors
