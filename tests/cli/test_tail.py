"""`mainflux-events tail`, in pipes; in a terminal, see `test_terminal`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from commands import command, running
from mainflux_events import (
    AUTH_STREAM,
    THINGS_STREAM,
    Action,
    Event,
    GroupRemoved,
    Identity,
    OrgRemoved,
    Publisher,
    ThingCreated,
    ThingRemoved,
    UnknownAction,
)
from mainflux_events.cli.events import event_of_line, event_to_json
from mainflux_events.cli.server import connected
from mainflux_events.cli.tail import line_of
from mainflux_events.cli.tailing import Filters, Tail, read_entry
from mainflux_events.testing import RedisServer, redis_server
from mainflux_events.wire import decode
from support import wait_until

CREATED = Event(
    ThingCreated(id="t1", group_id="g1", profile_id="p1", name="sensor", metadata={"a": 1}),
    Identity("u1", "u1@example.com"),
    "o1",
    "g1",
    datetime(2026, 1, 1, 12, 30, tzinfo=UTC),
)


@contextlib.asynccontextmanager
async def tailing(server: RedisServer, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A tail that has begun: whatever is appended now, it shows."""
    async with running("tail", "--redis", server.url, *arguments) as process:

        async def reads() -> bool:
            return b"cmd=xread" in await server.command("CLIENT", "LIST")

        await wait_until(reads, 40)
        yield process


async def next_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 40)).decode()


async def publish(server: RedisServer, *events: Event | Action, stream: str = THINGS_STREAM) -> None:
    async with Publisher(server.url, stream) as publisher:
        for event in events:
            await publisher.send(event)


# ---- as a process


async def test_what_is_appended_is_shown_and_nothing_else_is_left(server: RedisServer, client: Redis) -> None:
    await publish(server, ThingRemoved(id="before"))
    async with tailing(server) as process:
        await publish(server, CREATED)
        await publish(server, OrgRemoved(id="o1"), stream=AUTH_STREAM)
        assert (await next_line(process)).startswith(
            "2026-01-01T12:30:00.000Z  thing.create  id=t1  group_id=g1  profile_id=p1  name=sensor  "
            'metadata={"a": 1}  org o1  group g1  by u1@example.com  mainflux.things '
        )
        assert "org.remove  id=o1" in await next_line(process)
        process.send_signal(signal.SIGTERM)
        output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (130, b"", b"mainflux-events: interrupted\n")
    assert set(await client.keys()) == {THINGS_STREAM.encode(), AUTH_STREAM.encode()}
    assert await client.xinfo_groups(THINGS_STREAM) == []


async def test_as_json_it_is_what_publish_reads(server: RedisServer) -> None:
    async with tailing(server, "--json", "--since", "earliest") as process:
        await publish(server, CREATED)
        line = await next_line(process)
    found = json.loads(line)
    assert (found["stream"], found["operation"]) == (THINGS_STREAM, "thing.create")
    assert event_of_line(line) == CREATED


async def test_a_filter_and_a_time_leave_out_the_rest(server: RedisServer, client: Redis) -> None:
    await client.xadd(THINGS_STREAM, {"operation": "thing.remove", "id": "t2"}, id="1767225600000-0")
    await publish(server, ThingRemoved(id="t1"), ThingRemoved(id="t2"), CREATED)
    arguments = ("--since", "1h", "--operation", "thing.*", "--thing", "t2", "--json")
    async with tailing(server, *arguments) as process:
        found = json.loads(await next_line(process))
        await publish(server, ThingRemoved(id="t2"))
        last = json.loads(await next_line(process))
    assert [each["action"] for each in (found, last)] == [{"id": "t2"}, {"id": "t2"}]
    assert last["id"] > found["id"] > "1767225600001"


async def test_actions_of_ones_own_are_read_by_their_module(server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from mainflux_events import Action\n\nclass Placed(Action, tag='order.placed'):\n    lines: list[int]\n"
    )
    await server.command("XADD", "orders", "*", "operation", "order.placed", "lines", "[1,2]")
    await server.command("XADD", "orders", "*", "operation", "order.placed", "lines", "many")
    arguments = ("--stream", "orders", "--import", "shop", "--since", "earliest", "--json")
    async with running("tail", "--redis", server.url, *arguments, cwd=str(tmp_path)) as process:
        good, bad = json.loads(await next_line(process)), json.loads(await next_line(process))
    assert (good["action"], "error" in good) == ({"lines": [1, 2]}, False)
    assert (bad["action"], "field 'lines'" in bad["error"]) == ({"lines": "many"}, True)


async def test_when_nobody_reads_its_output_it_ends(server: RedisServer) -> None:
    async with tailing(server) as process:
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        _, errors = await asyncio.wait_for(process.communicate(), 40)
    assert (process.returncode, errors) == (1, b"")


async def test_an_outage_is_told_and_ridden_out() -> None:
    async with redis_server(aof=True) as server, tailing(server) as process:
        assert process.stderr is not None
        await server.kill()
        assert b"trying again" in await process.stderr.readline()
        await server.restart()
        await publish(server, CREATED)
        assert "thing.create" in await next_line(process)
        assert await process.stderr.readline() == b"connected again\n"


@pytest.mark.parametrize("key", ["string", "missing rights"])
async def test_what_can_never_be_read_ends_it_with_a_line(key: str, fresh_server: RedisServer) -> None:
    await fresh_server.command("SET", "string", "no stream")
    await fresh_server.command("ACL", "SETUSER", "default", "-xread")
    shown = await command("tail", "--redis", fresh_server.url, "--stream", key)
    assert shown.status == 1
    assert ("WRONGTYPE" if key == "string" else "+xread") in shown.complaint


# ---- what it reads


async def ids_until(tail: Tail, last: bytes) -> list[str]:
    """What it gives, up to an entry."""
    found: list[str] = []
    async for came in tail:
        found += [event.id for event, _ in came]
        if last.decode() in found:
            break
    return found


async def test_what_was_removed_before_it_was_read_is_told(server: RedisServer, client: Redis) -> None:
    first = await client.xadd("s", {"operation": "x"})
    told: list[str] = []
    async with connected(server.url) as asked:
        tail = Tail(asked, ["s"], "earliest", told.append)
        reads = aiter(tail)
        assert [event.id for event, _ in await anext(reads)] == [first.decode()]
        async with client.pipeline() as pipeline:
            for _ in range(10):
                pipeline.xadd("s", {"operation": "x"})
            pipeline.xtrim("s", maxlen=3, approximate=False)
            *_, last, _ = await pipeline.execute()
        came = await anext(reads)
    assert (len(came), came[-1][0].id) == (3, last.decode())
    assert len(told) == 1
    counted = server.version >= (7,)
    assert ("7 entries were removed before" if counted else "may have been removed before") in told[0]


async def test_a_stream_that_is_made_anew_is_told_and_read_from_its_beginning(
    server: RedisServer, client: Redis
) -> None:
    await client.xadd("s", {"operation": "x"}, id="9-0")
    told: list[str] = []
    async with connected(server.url) as asked:
        reads = aiter(Tail(asked, ["s"], "earliest", told.append))
        await anext(reads)
        async with client.pipeline() as pipeline:
            pipeline.delete("s").xadd("s", {"operation": "y"}, id="5-0")
            await pipeline.execute()
        [(event, _)] = await anext(reads)
    assert event.id == "5-0"
    assert len(told) == 1
    assert "was deleted, recreated or restored" in told[0]


async def test_many_entries_come_whole_and_in_order(server: RedisServer, client: Redis) -> None:
    async with client.pipeline() as pipeline:
        for _ in range(2000):
            pipeline.xadd("s", {"operation": "x"})
        appended = await pipeline.execute()
    async with connected(server.url) as asked:
        found = await ids_until(Tail(asked, ["s"], "earliest", pytest.fail), appended[-1])
    assert found == [id.decode() for id in appended]


# ---- decisions

OTHERS = [
    Event(ThingRemoved(id="t9"), org_id="o2", group_id="g9"),
    Event(GroupRemoved(id="g3", thing_ids=["t5", "t6"])),
    Event(OrgRemoved(id="o3")),
    Event(UnknownAction("lamp.lit", {"thing_id": "t7", "group_ids": "g7,g8"})),
]


@pytest.mark.parametrize(
    ("filters", "matching"),
    [
        (Filters(), [0, 1, 2, 3, 4]),
        (Filters(operations=["thing.*"]), [0, 1]),
        (Filters(operations=["thing.create", "*.lit"]), [0, 4]),
        (Filters(orgs=["o1"]), [0]),
        (Filters(orgs=["o3", "o2"]), [1, 3]),
        (Filters(groups=["g1"]), [0]),
        (Filters(groups=["g3"]), [2]),
        (Filters(groups=["g8"]), [4]),
        (Filters(things=["t1"]), [0]),
        (Filters(things=["t6"]), [2]),
        (Filters(things=["t7", "t9"]), [1, 4]),
        (Filters(operations=["thing.*"], things=["t9"], orgs=["o1"]), []),
        (Filters(things=["g3", "o1", ""]), []),
    ],
)
def test_filters_pick_what_concerns_an_org_a_group_a_thing(filters: Filters, matching: list[int]) -> None:
    events = [CREATED, *OTHERS]
    assert [number for number, event in enumerate(events) if filters.match(event)] == matching


def captured() -> Iterator[tuple[str, list[bytes]]]:
    """Entries that the reference has published."""
    path = Path(__file__).parents[1] / "reference" / "capture.jsonl"
    for line in path.read_text().splitlines():
        id, fields = json.loads(line)
        yield id, [part.encode("utf-8", "surrogateescape") for pair in fields.items() for part in pair]


def test_events_of_the_reference_survive_as_json() -> None:
    for id, fields in captured():
        event = decode(fields, "s", id)
        assert event_of_line(json.dumps(event_to_json(event))) == event


def test_what_somebody_else_has_chosen_cannot_act_on_the_terminal() -> None:
    fields = [b"operation", b"evil\x1b[2J", b"na\nme", b"\x9b31m\xff", b"evt_org_id", b"\r"]
    line = line_of(*read_entry("s\x07", "5-0", fields)).plain
    assert all(each.isprintable() for each in line)
    assert r"evil\x1b[2J" in line
    assert r"na\nme=\x9b31m\udcff" in line or r"na\nme=\udc9b31m\udcff" in line


def test_the_lines_of_a_stream_are_in_columns() -> None:
    event, error = read_entry("s", "1767225600000-0", [b"operation", b"x", b"occurred_at", b"yesterday"])
    other, _ = read_entry(
        "s", "1767225600000-1", [b"operation", b"x", b"occurred_at", b"2026-01-01T00:00:00Z"]
    )
    begins = [line_of(each, error).plain.index("x") for each in (event, other)]
    assert all(one == other for one, other in pairwise(begins))
    assert line_of(event).plain.startswith("2026-01-01T00:00:00.000Z  x")
