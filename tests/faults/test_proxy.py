"""The proxy itself: what it says that it does to a connection, it does."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
from redis.asyncio import Redis

from faults.proxy import Connection, Direction, Proxy, proxy_to
from mainflux_events.resp import command
from mainflux_events.testing import RedisServer
from support import PATIENCE, no_clients_left, wait_until

INCR = command("INCR", "n")
ECHO = command("ECHO", "x" * 100)
ECHOED = b"$100\r\n" + b"x" * 100 + b"\r\n"


class Talk:
    """A client of the proxy, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, sent: bytes, answer: int) -> bytes:
        self.writer.write(sent)
        return await asyncio.wait_for(self.reader.readexactly(answer), PATIENCE)

    async def rest(self) -> bytes:
        """What still comes before the connection is reset."""
        came = b""
        try:
            while data := await asyncio.wait_for(self.reader.read(65536), PATIENCE):
                came += data
        except ConnectionResetError:
            return came
        raise AssertionError("it ended in good order")

    async def close(self) -> None:
        self.writer.close()
        await asyncio.wait([asyncio.ensure_future(self.writer.wait_closed())])


async def talk_to(proxy: Proxy, **settings: Any) -> Talk:
    return Talk(*await asyncio.open_connection("127.0.0.1", proxy.port, **settings))


@pytest.fixture
async def talk(proxy: Proxy) -> AsyncIterator[Talk]:
    talk = await talk_to(proxy)
    yield talk
    await talk.close()


async def counted(client: Redis) -> int:
    return int(await client.get("n") or 0)


async def test_what_is_said_and_answered_passes_and_is_counted(proxy: Proxy, talk: Talk) -> None:
    heard: list[tuple[Direction, bytes]] = []
    proxy.tap = lambda direction, data: heard.append((direction, data))
    assert await talk.say(ECHO, len(ECHOED)) == ECHOED
    assert proxy.passed == {"to server": len(ECHO), "to client": len(ECHOED)}
    assert heard == [("to server", ECHO), ("to client", ECHOED)]


async def test_megabytes_pass(proxy: Proxy, talk: Talk) -> None:
    sent = command("ECHO", b"\x00\xff\r\n" * 2_000_000)
    answer = b"$8000000\r\n" + b"\x00\xff\r\n" * 2_000_000 + b"\r\n"
    assert await talk.say(sent, len(answer)) == answer


async def test_each_direction_is_delayed(proxy: Proxy, talk: Talk) -> None:
    await talk.say(ECHO, len(ECHOED))
    proxy.delay(0.05)
    begun = time.monotonic()
    await talk.say(ECHO, len(ECHOED))
    assert time.monotonic() - begun >= 0.1
    proxy.delay(0.0)


async def test_a_reset_is_an_error_at_both_ends(proxy: Proxy, talk: Talk, client: Redis) -> None:
    await talk.say(ECHO, len(ECHOED))
    proxy.reset()
    assert await talk.rest() == b""
    await wait_until(lambda: not proxy.connections)


@pytest.mark.parametrize("after", [0, 1, len(ECHOED) - 1, len(ECHOED), len(ECHOED) + 7])
async def test_exactly_so_many_bytes_reach_the_client(proxy: Proxy, talk: Talk, after: int) -> None:
    proxy.cut("to client", after)
    talk.writer.write(ECHO * 3)
    assert await talk.rest() == (ECHOED * 3)[:after]
    assert not proxy.connections


async def test_a_reset_waits_until_a_slow_client_has_taken_what_passed(proxy: Proxy, talk: Talk) -> None:
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    # More than sockets hold, to a client that does not read yet.
    value = b"x" * 16_000_000
    proxy.cut("to client", len(value))
    talk.writer.write(command("ECHO", value))
    await wait_until(lambda: not proxy.cutting)
    assert proxy.connections
    assert await talk.rest()
    await wait_until(lambda: not proxy.connections)
    assert not unseen


@pytest.mark.parametrize(("after", "applied"), [(0, 0), (len(INCR) * 7 - 1, 6), (len(INCR) * 7, 7)])
async def test_exactly_so_many_bytes_reach_the_server(
    proxy: Proxy, talk: Talk, client: Redis, after: int, applied: int
) -> None:
    proxy.cut("to server", after)
    talk.writer.write(INCR * 20)
    await talk.rest()
    assert proxy.passed["to server"] == after

    async def all_applied() -> bool:
        return await counted(client) == applied

    await wait_until(all_applied)


async def test_what_arrives_before_a_cut_is_answered_yet_if_so_wanted(proxy: Proxy, talk: Talk) -> None:
    proxy.cut("to server", len(ECHO) * 2 + 5, answered=True)
    talk.writer.write(ECHO * 20)
    assert await asyncio.wait_for(talk.reader.read(), PATIENCE) == ECHOED * 2
    await wait_until(lambda: not proxy.connections)


async def test_a_cut_may_be_for_a_given_connection(proxy: Proxy, talk: Talk) -> None:
    await talk.say(ECHO, len(ECHOED))
    [connection] = proxy.connections
    other = await talk_to(proxy)
    proxy.cut("to client", 1, on=connection)
    assert await other.say(ECHO, len(ECHOED)) == ECHOED
    assert proxy.cutting
    talk.writer.write(ECHO)
    assert await talk.rest() == ECHOED[:1]
    assert not proxy.cutting
    await other.close()


async def test_a_cut_is_for_one_connection(proxy: Proxy, talk: Talk) -> None:
    proxy.cut("to client", 1)
    talk.writer.write(ECHO)
    assert await talk.rest() == ECHOED[:1]
    other = await talk_to(proxy)
    assert await other.say(ECHO, len(ECHOED)) == ECHOED
    await other.close()


async def test_behind_a_partition_nothing_arrives_until_it_ends(
    proxy: Proxy, talk: Talk, client: Redis
) -> None:
    proxy.hold()
    talk.writer.write(INCR)
    other = await talk_to(proxy)
    other.writer.write(INCR)
    await wait_until(lambda: [each.client.kept for each in proxy.connections] == [len(INCR)] * 2)
    assert await counted(client) == 0
    proxy.release()
    answers = [await asyncio.wait_for(each.reader.readexactly(4), PATIENCE) for each in (talk, other)]
    assert sorted(answers) == [b":1\r\n", b":2\r\n"]
    await other.close()


@pytest.mark.parametrize("late", [False, True])
async def test_what_a_client_had_sent_that_is_gone_arrives_late_or_never(
    proxy: Proxy, talk: Talk, client: Redis, late: bool
) -> None:
    await talk.say(ECHO, len(ECHOED))
    [connection] = proxy.connections
    connection.hold()
    # Longer than what a server reads at once: one that is told too early of the end would leave the rest undone.
    talk.writer.write(INCR * 10_000)
    await talk.writer.drain()
    await talk.close()
    await wait_until(lambda: connection.client.gone)
    assert not connection.server.gone
    connection.release(late=late)
    if late:

        async def all_applied() -> bool:
            return await counted(client) == 10_000

        await wait_until(all_applied)
    await wait_until(lambda: not proxy.connections)
    assert await counted(client) == (10_000 if late else 0)


async def test_refused_and_accepted_again(proxy: Proxy, talk: Talk) -> None:
    await talk.say(ECHO, len(ECHOED))
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await talk_to(proxy)
    assert await talk.say(ECHO, len(ECHOED)) == ECHOED, "those that are there stay"
    await proxy.accept()
    other = await talk_to(proxy)
    assert await other.say(ECHO, len(ECHOED)) == ECHOED
    await other.close()


async def test_where_there_is_no_server_a_connection_is_reset(fresh_server: RedisServer) -> None:
    async with proxy_to(fresh_server) as proxy:
        await fresh_server.kill()
        talk = await talk_to(proxy)
        assert await talk.rest() == b""
        assert not proxy.connections
        await talk.close()


async def test_a_connection_that_is_reset_before_the_server_has_taken_it_is_not_left_open(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_to(server) as proxy:
        join = proxy.join

        def join_and_reset(connection: Connection) -> None:
            join(connection)
            connection.reset()

        monkeypatch.setattr(proxy, "join", join_and_reset)
        talk = await talk_to(proxy)
        assert await talk.rest() == b""
        await talk.close()
    await no_clients_left(server)


async def test_the_end_of_the_server_is_passed_on(proxy: Proxy, talk: Talk, server: RedisServer) -> None:
    await talk.say(ECHO, len(ECHOED))
    await server.command("CLIENT", "KILL", "TYPE", "normal")
    assert await asyncio.wait_for(talk.reader.read(), PATIENCE) == b""


async def test_the_end_of_a_client_is_passed_on(proxy: Proxy, talk: Talk, server: RedisServer) -> None:
    await talk.say(ECHO, len(ECHOED))
    await talk.close()
    await wait_until(lambda: not proxy.connections)


async def test_tls_ends_at_it(server: RedisServer) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with proxy_to(server, tls=context) as proxy:
        talk = await talk_to(proxy, ssl=trusting, server_hostname="localhost")
        assert await talk.say(ECHO, len(ECHOED)) == ECHOED
        assert proxy.passed["to server"] == len(ECHO), "counted is what is inside"
        proxy.cut("to client", 5)
        talk.writer.write(ECHO)
        assert await talk.rest() == ECHOED[:5]
        await talk.close()
