"""The server answers, and refuses: no memory, not the master, no rights, not a stream, too large."""

from __future__ import annotations

import asyncio
import logging
import traceback
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from consuming import Recorder, take, thing, things
from faults.kit import append, cursor, more, stored, subscriber, until_stored
from histories import STREAM, History
from mainflux_events import (
    AccessRefused,
    ConfigError,
    EncodeError,
    Publisher,
    Subscriber,
    ThingCreated,
    Undelivered,
)
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, wait_until

MIB = 1024 * 1024
SECRET = "s3cr€t/p@ss"
LONGEST_WAIT = 0.05  # of the publishers of a History

OOM = ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0")
READONLY = ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE")
NOREPLICAS = ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0")

either_side = pytest.mark.parametrize(
    "side", [Publisher, lambda *given: Subscriber(*given, "audit")], ids=["publisher", "subscriber"]
)
one_or_many = pytest.mark.parametrize("count", [1, 100])


# --- what passes ---


async def refused_for_a_while(
    server: RedisServer, refusal: tuple[str, str], code: str, count: int
) -> Publisher:
    """Publish what is refused at first, and see that it arrives."""
    history = History()
    begin, end = refusal
    async with history.publisher(server.url) as publisher:
        await server.command(*begin.split())
        history.publish(publisher, count)
        await more(lambda: publisher.stats.retries, 5)
        assert publisher.stats.in_flight == count
        await server.command(*end.split())
        await publisher.flush(PATIENCE)
    assert {details.reason.partition(" ")[0] for details in history.recorder.retries} == {code}
    history.check(publisher, await stored(server))
    assert publisher.stats.acknowledged == count
    return publisher


@one_or_many
async def test_oom_publisher(fresh_server: RedisServer, count: int) -> None:
    await refused_for_a_while(fresh_server, OOM, "OOM", count)


@one_or_many
async def test_readonly_publisher(fresh_server: RedisServer, count: int) -> None:
    publisher = await refused_for_a_while(fresh_server, READONLY, "READONLY", count)
    assert publisher.stats.reconnects >= 5, "another server may be the master now"


@one_or_many
async def test_noreplicas_publisher(fresh_server: RedisServer, count: int) -> None:
    await refused_for_a_while(fresh_server, NOREPLICAS, "NOREPLICAS", count)


@pytest.mark.parametrize(
    ("refusal", "code"), [(OOM, "OOM"), (READONLY, "READONLY"), (NOREPLICAS, "NOREPLICAS")]
)
async def test_oom_readonly_noreplicas_handlers_go_on_and_the_cursor_is_stored_later(
    fresh_server: RedisServer, direct: Redis, refusal: tuple[str, str], code: str
) -> None:
    seen, handled = Recorder(), list[str]()
    begin, end = refusal
    ids = await append(direct, *things(300))

    async def handle(event: object) -> None:
        handled.append(thing(event))  # type: ignore[arg-type]
        await asyncio.sleep(0)

    async with subscriber(fresh_server, seen) as reader:
        task = asyncio.create_task(reader.run(handle))
        await wait_until(lambda: handled)
        await fresh_server.command(*begin.split())
        await wait_until(lambda: len(handled) == 300)
        if fresh_server.version >= (7,) or code != "NOREPLICAS":  # before, scripts wrote all the same
            await wait_until(lambda: [each.id for each in seen.of("cursor_not_saved")][-1:] == [ids[-1]])
            assert code in seen.of("cursor_not_saved")[-1].reason
            assert await cursor(direct) != ids[-1]
        await fresh_server.command(*end.split())
        await until_stored(direct, ids[-1])
        task.cancel()
        await asyncio.wait([task])
    assert handled == things(300)
    assert seen.of("lease_lost") == []


async def test_oom_of_the_first_cursor(fresh_server: RedisServer, direct: Redis) -> None:
    seen = Recorder()
    [id] = await append(direct, "t1")
    await direct.config_set("maxmemory", "1")
    async with subscriber(fresh_server, seen) as reader:
        await wait_until(lambda: seen.of("retrying"))
        assert "OOM" in seen.of("retrying")[0].reason
        await direct.config_set("maxmemory", "0")
        await reader.commit(await anext(reader))
    assert await cursor(direct) == id


# --- credentials and rights ---


def no_secret(*told: object) -> None:
    """Nothing that was told holds the password, nor the user's name."""
    for text in map(str, told):
        for secret in (SECRET, quote(SECRET, safe=""), "writer"):
            assert secret not in text


@pytest.mark.parametrize(
    "side", [Publisher, lambda *given: Subscriber(*given, "audit")], ids=["publisher", "subscriber"]
)
@pytest.mark.parametrize("code", ["NOAUTH", "WRONGPASS", "NOPERM"])
async def test_noauth_wrongpass_noperm_at_start(
    side: type[Publisher], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis_server(tcp=True, password="right") as server:
        await server.command("ACL", "SETUSER", "writer", "on", f">{SECRET}", "~*", "+ping")
        credentials = {"NOAUTH": "", "WRONGPASS": f"writer:{quote(SECRET + 'x', safe='')}@"}
        given = credentials.get(code, f"writer:{quote(SECRET, safe='')}@")
        url = server.url.replace(":right@", given)
        with caplog.at_level(logging.DEBUG), pytest.raises(AccessRefused) as caught:
            await side(url, STREAM).start()
        if code == "NOPERM":
            assert "needs the rights" in str(caught.value)
        else:
            assert "password" in str(caught.value)
        no_secret(repr(caught.value), "".join(traceback.format_exception(caught.value)), caplog.text)


@pytest.mark.parametrize("code", ["NOAUTH", "WRONGPASS"])
@one_or_many
async def test_noauth_wrongpass_at_run_time_publisher(
    code: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    history = History()
    async with redis_server(tcp=True) as server, Redis.from_url(server.url) as client:
        await client.execute_command("ACL", "SETUSER", "writer", "on", f">{SECRET}", "~*", "+@all")
        url = server.url.replace("//", f"//writer:{quote(SECRET, safe='')}@")
        async with history.publisher(server.url if code == "NOAUTH" else url) as publisher:
            await client.config_set("requirepass", "later")
            await client.execute_command("ACL", "SETUSER", "writer", "resetpass", ">later")
            await client.client_kill_filter(_type="normal", skipme=True)
            history.publish(publisher, count)
            await more(lambda: publisher.stats.retries, 5)
            await client.config_set("requirepass", "")
            await client.execute_command("ACL", "SETUSER", "writer", f">{SECRET}")
            await publisher.flush(PATIENCE)
        history.check(publisher, await stored(server))
    assert publisher.stats.acknowledged == count
    last = history.recorder.retries[-1]
    assert last.wait >= LONGEST_WAIT / 2
    wanted = {"NOAUTH": "uthenticat", "WRONGPASS": "check the user and the password"}
    assert wanted[code] in last.reason
    no_secret(history.recorder.retries, caplog.text)


@pytest.mark.parametrize("right", ["xadd", "multi", "exec"])
async def test_noperm_at_run_time_publisher(right: str, caplog: pytest.LogCaptureFixture) -> None:
    history = History()
    async with redis_server(tcp=True) as server:
        await server.command("ACL", "SETUSER", "writer", "on", f">{SECRET}", "~*", "+xadd", "+multi", "+exec")
        url = server.url.replace("//", f"//writer:{quote(SECRET, safe='')}@")
        async with history.publisher(url) as publisher:
            await server.command("ACL", "SETUSER", "writer", f"-{right}")
            history.publish(publisher, 100)
            if right != "multi":  # without it, each event goes by itself
                await more(lambda: publisher.stats.retries, 5)
                await server.command("ACL", "SETUSER", "writer", f"+{right}")
            await publisher.flush(PATIENCE)
        history.check(publisher, await stored(server))
    assert publisher.stats.acknowledged == 100
    for details in history.recorder.retries:
        assert "NOPERM" in details.reason
        assert details.wait == LONGEST_WAIT
    no_secret(history.recorder.retries, caplog.text)


async def test_noauth_at_run_time_subscriber(
    fresh_server: RedisServer, direct: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Recorder()
    async with subscriber(fresh_server, seen) as reader:
        await direct.config_set("requirepass", SECRET)
        await direct.client_kill_filter(_type="normal", skipme=True)
        await more(lambda: len(seen.of("retrying")), 5)
        assert "Authentication required" in seen.of("retrying")[-1].reason
        await direct.config_set("requirepass", "")
        await append(direct, "t1")
        assert await take(reader, 1) == ["t1"]
    no_secret(seen.seen, caplog.text)


async def test_noperm_at_run_time_subscriber(caplog: pytest.LogCaptureFixture) -> None:
    seen = Recorder()
    async with redis_server(tcp=True) as server, Redis.from_url(server.url) as client:
        await client.execute_command("ACL", "SETUSER", "writer", "on", f">{SECRET}", "~*", "+@all")
        ids = await append(client, *things(3))
        url = server.url.replace("//", f"//writer:{quote(SECRET, safe='')}@")
        async with subscriber(url, seen) as reader:
            events = aiter(reader)
            await anext(events)
            await anext(events)
            await until_stored(client, ids[0])
            await client.execute_command("ACL", "SETUSER", "writer", "-get")
            await client.client_kill_filter(user="writer")
            await anext(events)
            await wait_until(lambda: len(seen.of("cursor_not_saved")) > 5)
            assert "NOPERM" in seen.of("cursor_not_saved")[-1].reason
            await client.execute_command("ACL", "SETUSER", "writer", "+get")
            await until_stored(client, ids[1])
            theirs = [each for each in await client.client_list() if each["user"] == "writer"]
            assert len(theirs) == 2, "one reads, one stores cursors"
    no_secret(seen.seen, caplog.text)


# --- not a stream ---


@pytest.mark.parametrize(
    "side", [Publisher, lambda *given: Subscriber(*given, "audit")], ids=["publisher", "subscriber"]
)
async def test_stream_key_of_another_type_at_start(
    server: RedisServer, client: Redis, side: type[Publisher]
) -> None:
    await client.set(STREAM, "x")
    with pytest.raises(
        ConfigError, match="the key 'mainflux.things' holds a string, not a stream; choose another"
    ):
        await side(server.url, STREAM).start()


@one_or_many
async def test_stream_key_of_another_type_publisher(server: RedisServer, client: Redis, count: int) -> None:
    history = History()
    async with history.publisher(server.url) as publisher:
        await client.set(STREAM, "x")
        history.publish(publisher, count)
        await more(lambda: publisher.stats.retries, 5)
        assert publisher.stats.in_flight == count
        await client.delete(STREAM)
        await publisher.flush(PATIENCE)
    for details in history.recorder.retries:
        assert details.reason.startswith("WRONGTYPE")
        assert details.wait == LONGEST_WAIT
    history.check(publisher, await stored(server))
    assert publisher.stats.acknowledged == count


async def test_stream_key_of_another_type_subscriber(fresh_server: RedisServer, direct: Redis) -> None:
    seen = Recorder()
    async with subscriber(fresh_server, seen) as reader:
        await direct.set(STREAM, "a string")
        await wait_until(lambda: seen.of("retrying"))
        assert "WRONGTYPE" in seen.of("retrying")[0].reason
        await direct.delete(STREAM)
        await append(direct, "t1")
        assert await take(reader, 1) == ["t1"]


# --- too large ---


def sized(size: int) -> ThingCreated:
    return ThingCreated(id="x" * size, group_id="", profile_id="")


async def test_event_too_large() -> None:
    async with redis_server(config={"proto-max-bulk-len": "1mb"}) as server:
        async with History().publisher(server.url, max_event_bytes=4 * MIB) as publisher:
            with pytest.raises(
                EncodeError, match="a field is longer than the 1048576 bytes that the server takes"
            ):
                await publisher.publish(sized(MIB + 1))
            with pytest.raises(EncodeError, match=r"it takes 4194\d{3} bytes, above the 4194304 that"):
                await publisher.publish(sized(4 * MIB))
            await publisher.send(sized(MIB))
        assert publisher.stats.accepted == publisher.stats.acknowledged == 1


@pytest.mark.parametrize("may_ask", [True, False])
async def test_event_too_large_for_a_limit_that_was_lowered_since(may_ask: bool) -> None:
    history = History()
    async with redis_server(tcp=True) as server:
        rights = ("+xadd", "+multi", "+exec", "+config" if may_ask else "-config")
        await server.command("ACL", "SETUSER", "writer", "on", ">pw", "~*", *rights)
        url = server.url.replace("//", "//writer:pw@")
        async with history.publisher(url, max_event_bytes=4 * MIB, attempt_timeout=5.0) as publisher:
            await server.command("CONFIG", "SET", "proto-max-bulk-len", MIB)
            await server.command("CLIENT", "KILL", "USER", "writer")
            history.publish(publisher, 5)
            publisher.publish_nowait(sized(3 * MIB))
            history.publish(publisher, 5)
            reason = (
                "longer than the 1048576 bytes" if may_ask else "the server refuses it: ERR Protocol error"
            )
            with pytest.raises(Undelivered, match=f"1 event was not delivered: .*{reason}"):
                await publisher.flush(PATIENCE)
        assert list((await stored(server)).values()) == history.accepted
        [lost] = history.recorder.lost_undelivered
        assert (lost.operation, publisher.stats.undelivered) == ("thing.create", 1)
