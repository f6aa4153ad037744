"""Dead letters read, sent on and dropped; also where that is interrupted."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from clusters import cluster
from consuming import STREAM, thing
from faults.proxy import Direction, proxy_to
from mainflux_events import (
    AccessRefused,
    ConfigError,
    DeadLetter,
    Event,
    EventsError,
    Redriven,
    ThingRemoved,
    drop_dead_letters,
    read_dead_letters,
    redrive,
)
from mainflux_events.deadletters import MOST_WORDS, append, dead_letter
from mainflux_events.letterbox import PAGE
from mainflux_events.resp import bulk_strings
from mainflux_events.testing import RedisServer
from support import wait_until

DEAD = "dead"
MARK = "mainflux:redrive:{dead}"
REDRIVER = Path(__file__).parent.parent / "killed_redriver.py"


def removed(id: str, *more: bytes) -> list[bytes]:
    """The fields of an entry."""
    return [b"operation", b"thing.remove", b"id", id.encode(), *more]


WIDE = tuple(b"%d" % number for number in range(MOST_WORDS))


def packed(entry: list[bytes], number: int, stream: str = STREAM, dead: str = DEAD) -> list[bytes]:
    letter = dead_letter(entry, stream, b"5-%d" % number, ZeroDivisionError("no"), 2, "audit")
    command = append(dead, None, letter)
    return bulk_strings(command, command.index(b"\r\n") + 2)


async def bury(server: RedisServer, *entries: list[bytes], stream: str = STREAM) -> list[str]:
    """Append the dead letters of entries, whose IDs were 5-0, 5-1 and so on. Gives their own IDs."""
    ids = []
    for number, entry in enumerate(entries):
        ids.append((await server.command(*packed(entry, number, stream))).decode())
    return ids


async def entries(server: RedisServer, stream: str) -> list[list[bytes]]:
    """The fields of all entries."""
    return [fields for _, fields in await server.command("XRANGE", stream, "-", "+")]


async def left(server: RedisServer) -> list[str]:
    """The IDs of the dead letters that are left."""
    return [id.decode() for id, _ in await server.command("XRANGE", DEAD, "-", "+")]


def things(count: int) -> list[list[bytes]]:
    return [removed(f"t{number}") for number in range(count)]


# --- into streams ---------------------------------------------------------------------------------------------------


async def test_all_go_to_where_they_are_from_byte_for_byte_and_in_order(server: RedisServer) -> None:
    strange = [b"\xff", b"\xfe\r\n", b"id", b"1", b"id", b"2", b"dlq_id", b"of its own", b"", b""]
    some = [removed("t1"), strange, removed("t3", b"occurred_at", b"2026-01-01T00:00:00.123456789Z")]
    await bury(server, *some)
    await bury(server, removed("t4"), stream="others")
    assert await redrive(server.url, DEAD) == Redriven(redriven=4, failed=0)
    assert await entries(server, STREAM) == some
    assert await entries(server, "others") == [removed("t4")]
    assert await left(server) == []


async def test_more_than_a_page_goes_in_order(server: RedisServer) -> None:
    many = things(2 * PAGE + 7)
    await bury(server, *many)
    assert await redrive(server.url, DEAD) == Redriven(len(many), 0)
    assert await entries(server, STREAM) == many


async def test_large_ones_go_in_portions(server: RedisServer) -> None:
    large = [removed(f"t{number}", b"payload", os.urandom(300_000)) for number in range(10)]
    await bury(server, *large)
    assert await redrive(server.url, DEAD) == Redriven(10, 0)
    assert await entries(server, STREAM) == large
    stats = (await server.command("INFO", "commandstats")).decode()
    [evals] = [line for line in stats.splitlines() if line.startswith("cmdstat_eval:")]
    assert int(evals.partition("calls=")[2].partition(",")[0]) >= 3


async def test_another_stream_can_be_named(server: RedisServer) -> None:
    await bury(server, *things(3))
    await redrive(server.url, DEAD, to="elsewhere")
    assert await entries(server, "elsewhere") == things(3)
    assert await entries(server, STREAM) == []


async def test_some_can_be_chosen_by_their_ids(server: RedisServer) -> None:
    ids = await bury(server, *things(5))
    assert await redrive(server.url, DEAD, ids=[ids[3], ids[1], ids[3], "1-1"]) == Redriven(2, 0)
    assert await entries(server, STREAM) == [removed("t1"), removed("t3")], "in the order of the stream"
    assert await left(server) == [ids[0], ids[2], ids[4]]
    assert await redrive(server.url, DEAD, ids=ids[0]) == Redriven(1, 0)


async def test_some_can_be_chosen_by_what_they_are(server: RedisServer) -> None:
    ids = await bury(server, *things(5))
    chosen = await redrive(server.url, DEAD, where=lambda letter: letter.source_id in ("5-0", "5-4"))
    assert chosen == Redriven(2, 0)
    assert await left(server) == ids[1:4]
    assert await redrive(
        server.url, DEAD, ids=ids[:2], where=lambda letter: letter.attempts == 2
    ) == Redriven(1, 0)


async def test_what_dies_again_meanwhile_is_left_for_the_next_time(server: RedisServer) -> None:
    await bury(server, *things(PAGE))
    seen: list[str] = []

    async def dies_again(event: Event) -> None:
        seen.append(thing(event))
        await bury(server, removed(thing(event)))

    assert await redrive(server.url, DEAD, to=dies_again) == Redriven(PAGE, 0)
    assert seen == [f"t{number}" for number in range(PAGE)]
    assert len(await left(server)) == PAGE


async def test_what_does_not_say_where_it_is_from_stays(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.command("XADD", DEAD, "*", *removed("t1"))
    ids = await left(server)
    await bury(server, removed("t2"))
    assert await redrive(server.url, DEAD) == Redriven(redriven=1, failed=1)
    assert await left(server) == ids
    assert f"redrive_failed: {ids[0]} of 'dead' does not say where it is from" in caplog.text
    assert await redrive(server.url, DEAD, to=STREAM) == Redriven(1, 0)
    assert await entries(server, STREAM) == [removed("t2"), removed("t1")]


async def test_a_dead_letter_of_a_dead_letter_becomes_one_again(server: RedisServer) -> None:
    once = dead_letter(removed("t1"), STREAM, b"5-0", ZeroDivisionError("no"), 2, "audit")
    await bury(server, once, stream="dead before")
    await redrive(server.url, DEAD)
    assert await entries(server, "dead before") == [once]
    await redrive(server.url, "dead before")
    assert await entries(server, STREAM) == [removed("t1")]


async def test_with_more_fields_than_a_script_can_hand_on(server: RedisServer) -> None:
    some = [removed("t1"), removed("t2", *WIDE), removed("t3")]
    await bury(server, *some)
    assert await redrive(server.url, DEAD) == Redriven(3, 0)
    assert await entries(server, STREAM) == some
    assert await left(server) == []
    assert await server.command("EXISTS", MARK) == 0


# --- into a handler -------------------------------------------------------------------------------------------------


async def test_a_handler_gets_the_events_in_order_and_what_it_handled_is_gone(server: RedisServer) -> None:
    await bury(server, *things(3))
    seen: list[Event] = []

    async def handle(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event)

    assert await redrive(server.url, DEAD, to=handle) == Redriven(3, 0)
    assert seen == [Event(ThingRemoved(f"t{number}")) for number in range(3)]
    assert [(event.stream, event.id) for event in seen] == [(STREAM, f"5-{number}") for number in range(3)]
    assert await left(server) == []
    assert await entries(server, STREAM) == []


async def test_where_the_handler_raises_the_dead_letter_stays_and_the_next_follows(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await bury(server, *things(3))
    calls: list[str] = []

    def handle(event: Event) -> None:
        calls.append(thing(event))
        if thing(event) == "t1":
            raise ZeroDivisionError

    assert await redrive(server.url, DEAD, to=handle) == Redriven(redriven=2, failed=1)
    assert calls == ["t0", "t1", "t2"]
    assert await left(server) == [ids[1]]
    assert "handler_failed: entry 5-1 of 'things'" in caplog.text
    assert "given up" not in caplog.text


async def test_what_does_not_decode_stays(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    from mainflux_events import Action

    class Weighed(Action, tag="test.redrive.weighed"):
        grams: int

    assert Weighed.operation
    ids = await bury(server, [b"operation", b"test.redrive.weighed", b"grams", b"many"], removed("t1"))
    seen: list[Event] = []
    assert await redrive(server.url, DEAD, to=seen.append) == Redriven(redriven=1, failed=1)
    assert await left(server) == [ids[0]]
    assert f"redrive_failed: {ids[0]} of 'dead'" in caplog.text
    assert "many" not in caplog.text


async def test_cancelled_while_the_handler_works_the_dead_letter_stays(server: RedisServer) -> None:
    ids = await bury(server, *things(3))
    working = asyncio.Event()

    async def handle(event: Event) -> None:
        if thing(event) == "t1":
            working.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(redrive(server.url, DEAD, to=handle))
    await working.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await left(server) == ids[1:]


# --- interrupted ----------------------------------------------------------------------------------------------------


async def test_killed_again_and_again_each_arrives_once_and_in_order(
    server: RedisServer, client: Redis
) -> None:
    many = things(12_000)
    for begins in range(0, len(many), 1000):
        pipeline = client.pipeline(transaction=False)
        for number, entry in enumerate(many[begins : begins + 1000]):
            pipeline.execute_command(*packed(entry, begins + number))
        await pipeline.execute()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    kills = 0
    while before := await client.xlen(DEAD):
        process = subprocess.Popen([sys.executable, str(REDRIVER), server.url], env=environment)
        try:
            await wait_until(lambda before=before: _shorter(client, max(before - 3000, 0)))
        finally:
            process.kill()
            kills += process.wait() == -9
    assert kills >= 2
    assert await entries(server, STREAM) == many


async def _shorter(client: Redis, length: int) -> bool:
    return await client.xlen(DEAD) <= length


async def test_two_at_once_send_each_once(server: RedisServer) -> None:
    many = things(5 * PAGE)
    await bury(server, *many)
    one, other = await asyncio.gather(redrive(server.url, DEAD), redrive(server.url, DEAD))
    assert one.redriven + other.redriven == len(many)
    assert await entries(server, STREAM) == many


async def conversation(server: RedisServer, some: list[list[bytes]]) -> dict[Direction, int]:
    """How many bytes go in each direction while these are redriven."""
    await bury(server, *some)
    async with proxy_to(server) as proxy:
        await redrive(proxy.url(), DEAD)
        return dict(proxy.passed)


async def is_interrupted(url: str) -> bool:
    try:
        await redrive(url, DEAD)
    except EventsError as error:
        return "follows when this is called again" in str(error)
    return False


@pytest.mark.parametrize("direction", ["to server", "to client"])
@pytest.mark.parametrize("together", [True, False])
async def test_broken_at_any_byte_and_called_again_each_arrives_once(
    together: bool,
    direction: Direction,
    server: RedisServer,
    client: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not together:
        monkeypatch.setattr("mainflux_events.redriving.MOST_WORDS", 0)
    some = things(3)
    length = (await conversation(server, some))[direction]
    interrupted = 0
    for place in range(1, length, 1 + length // 100):
        await client.flushall()
        await bury(server, *some)
        async with proxy_to(server) as proxy:
            proxy.cut(direction, place)
            if await is_interrupted(proxy.url()):
                interrupted += 1
                await redrive(proxy.url(), DEAD)
        assert await entries(server, STREAM) == some, f"broken after {place} bytes of {direction}"
        assert await left(server) == []
        assert await client.exists(MARK) == 0
    assert interrupted > 50


async def test_what_is_marked_is_looked_for_behind_the_mark_only(server: RedisServer) -> None:
    twins = [removed("t", *WIDE), removed("t", *WIDE)]
    ids = await bury(server, *twins)
    arrived = (await server.command("XADD", STREAM, "*", *twins[0])).decode()
    await server.command("XDEL", DEAD, ids[0])
    # The first has arrived; the second was about to be appended, and was not.
    await server.command("SET", MARK, f"{ids[1]} {arrived} {STREAM}")
    await redrive(server.url, DEAD)
    assert await entries(server, STREAM) == twins
    assert await server.command("EXISTS", MARK) == 0


async def test_without_memory_it_raises_and_all_is_there_the_next_time(
    fresh_server: RedisServer, direct: Redis
) -> None:
    await bury(fresh_server, *things(3))
    await direct.config_set("maxmemory", "1")
    with pytest.raises(EventsError, match="OOM"):
        await redrive(fresh_server.url, DEAD)
    await direct.config_set("maxmemory", "0")
    assert await redrive(fresh_server.url, DEAD) == Redriven(3, 0)
    assert await entries(fresh_server, STREAM) == things(3)


async def test_a_target_of_another_type_is_told_and_nothing_is_lost(server: RedisServer) -> None:
    ids = await bury(server, *things(3))
    await server.command("SET", STREAM, "a string")
    with pytest.raises(EventsError, match="WRONGTYPE"):
        await redrive(server.url, DEAD)
    assert await left(server) == ids


async def test_a_server_that_is_down_is_an_error_of_this_package(fresh_server: RedisServer) -> None:
    await fresh_server.kill()
    with pytest.raises(EventsError, match="cannot be reached"):
        await redrive(fresh_server.url, DEAD)
    with pytest.raises(EventsError, match="cannot be reached"):
        await drop_dead_letters(fresh_server.url, DEAD)


@pytest.mark.parametrize("dead", ["{things}:dead", "dead"])
async def test_in_a_cluster_in_one_slot_or_not(dead: str) -> None:
    stream = "{things}"
    many = things(10)
    async with cluster() as nodes:
        first = nodes[0]
        async with RedisCluster(host=str(first.host), port=int(first.port or 0)) as client:
            assert (client.keyslot(stream) == client.keyslot(dead)) is dead.startswith("{")
            for number, entry in enumerate(many):
                _, *arguments = packed(entry, number, stream, dead)
                await client.execute_command("XADD", *arguments)
            seen = [letter.source_id async for letter in read_dead_letters(client, dead)]
            assert seen == [f"5-{number}" for number in range(10)]
            assert await redrive(client, dead) == Redriven(10, 0)
            found = [fields[b"id"].decode() for _, fields in await client.xrange(stream)]
            assert found == [f"t{number}" for number in range(10)]
            assert await client.xlen(dead) == 0
            assert await client.exists("mainflux:redrive:{dead}", "mainflux:redrive:{things}:dead") == 0


# --- read and dropped -----------------------------------------------------------------------------------------------


async def read(server: RedisServer, **chosen: Any) -> list[DeadLetter]:
    return [letter async for letter in read_dead_letters(server.url, DEAD, **chosen)]


async def test_they_can_be_read(server: RedisServer) -> None:
    ids = await bury(server, *things(2 * PAGE))
    letters = await read(server)
    assert [letter.id for letter in letters] == ids
    assert letters[1].raw == ((b"operation", b"thing.remove"), (b"id", b"t1"))
    assert letters[1].event().action == ThingRemoved("t1")
    assert (letters[1].stream, letters[1].source_id, letters[1].consumer) == (STREAM, "5-1", "audit")
    assert [letter.id for letter in await read(server, ids=[ids[5], ids[2]])] == [ids[2], ids[5]]
    assert [letter.id for letter in await read(server, where=lambda letter: letter.source_id == "5-150")] == [
        ids[150]
    ]


async def test_where_there_are_none_there_are_none(server: RedisServer) -> None:
    assert await read(server) == []
    assert await redrive(server.url, DEAD) == Redriven(0, 0)
    assert await drop_dead_letters(server.url, DEAD) == 0


async def test_reading_that_is_left_leaves_no_connection(server: RedisServer) -> None:
    await bury(server, *things(2 * PAGE))
    reading = read_dead_letters(server.url, DEAD)
    await anext(reading)
    # That nobody is connected is what the fixture looks at next, while this is not closed.


async def test_they_can_be_dropped(server: RedisServer) -> None:
    ids = await bury(server, *things(2 * PAGE))
    assert await drop_dead_letters(server.url, DEAD, ids=ids[:3]) == 3
    assert await drop_dead_letters(server.url, DEAD, where=lambda letter: letter.source_id == "5-7") == 1
    assert await left(server) == [*ids[3:7], *ids[8:]]
    assert await drop_dead_letters(server.url, DEAD) == 2 * PAGE - 4
    assert await left(server) == []


# --- arguments and rights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"to": ""}, "^to"),
        ({"to": 5}, "^to"),
        ({"to": DEAD}, "^to"),
        ({"ids": ["$"]}, "^ids"),
        ({"ids": [5]}, "^ids"),
        ({"dead_letters": ""}, "^dead_letters"),
        ({"redis": "http://x"}, "^redis"),
    ],
)
async def test_what_cannot_work_is_a_config_error_that_names_it(
    arguments: dict[str, Any], named: str, server: RedisServer
) -> None:
    with pytest.raises(ConfigError, match=named):
        await redrive(**({"redis": server.url, "dead_letters": DEAD} | arguments))


@pytest.mark.parametrize(
    "missing",
    ["", "~dead", "~things", "~mainflux:redrive:{dead}", "+xrange", "+xrevrange", "+xdel", "+xadd", "+eval"],
)
async def test_the_rights_that_are_listed_are_needed_and_enough(
    missing: str, fresh_server: RedisServer
) -> None:
    rights = ["~dead", "~things", "~mainflux:redrive:{dead}"]
    rights += ["+xrange", "+xrevrange", "+xdel", "+xadd", "+eval", "+get", "+set", "+del"]
    await fresh_server.command(
        "ACL", "SETUSER", "operator", "on", ">secret", *(right for right in rights if right != missing)
    )
    url = fresh_server.url.replace("unix://", "unix://operator:secret@")
    some = [removed("t1"), removed("t2", *WIDE)]
    ids = await bury(fresh_server, *some)
    if missing:
        with pytest.raises(AccessRefused) as caught:
            await redrive(url, DEAD)
        assert "secret" not in str(caught.value)
        assert "operator" not in str(caught.value)
        assert set(await left(fresh_server)) <= set(ids)
    else:
        await redrive(url, DEAD)
        assert await entries(fresh_server, STREAM) == some
