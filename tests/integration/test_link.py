"""The way to the server: every form of address and of client, and what is said where it cannot work."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.credentials import CredentialProvider

from clusters import cluster, give_slot, sentinel
from histories import STREAM, Recorder, numbered, stored_ids
from listening import listening
from mainflux_events import AccessRefused, Backoff, ConfigError, Publisher, nodes
from mainflux_events.hooks import Observers
from mainflux_events.line import SLOT_WAIT, SOON, Line
from mainflux_events.link import Channel, Disconnected, Link, Server, Unreachable
from mainflux_events.refusals import Refusal
from mainflux_events.resp import command
from mainflux_events.testing import RedisServer, redis_server
from support import PATIENCE, no_clients_left, nobody_listens, wait_until

SECRET = "s3cr€t/p@ss"
SHORT = Backoff(initial=0.01, maximum=0.05)
LONG = Backoff(initial=100.0, maximum=100.0)


async def ask(server: Server, *arguments: str, timeout: float = 2.0) -> object:
    """The reply to one command over a link."""
    return await nodes.ask(Link(server, timeout), STREAM, timeout, command(*arguments))


@pytest.fixture
async def tcp_server() -> AsyncIterator[RedisServer]:
    async with redis_server(tcp=True) as server:
        yield server


@pytest.fixture
async def locked_server() -> AsyncIterator[RedisServer]:
    """A server with a password."""
    async with redis_server(tcp=True, password=SECRET) as server:
        yield server


# --- URLs ---


async def test_tcp(tcp_server: RedisServer) -> None:
    for url in (f"redis://127.0.0.1:{tcp_server.port}", f"redis://localhost:{tcp_server.port}/0"):
        assert await ask(url, "PING") == b"PONG"


async def test_a_unix_socket(server: RedisServer) -> None:
    assert server.url.startswith("unix://")
    assert await ask(server.url, "PING") == b"PONG"


async def test_a_password(locked_server: RedisServer) -> None:
    assert quote(SECRET, safe="") in locked_server.url
    assert await ask(locked_server.url, "PING") == b"PONG"


@pytest.mark.parametrize("form", ["redis://127.0.0.1:{port}/3", "redis://127.0.0.1:{port}?db=3"])
async def test_a_database(tcp_server: RedisServer, form: str) -> None:
    await ask(form.format(port=tcp_server.port), "SET", "key", "there")
    async with Redis.from_url(f"redis://127.0.0.1:{tcp_server.port}/3") as client:
        assert await client.get("key") == b"there"


async def test_a_database_that_the_server_has_not(tcp_server: RedisServer) -> None:
    with pytest.raises(ConfigError, match=r"redis at 127\.0\.0\.1:\d+, database 99: .*no such database"):
        await ask(f"redis://127.0.0.1:{tcp_server.port}/99", "PING")


async def test_options_about_pools_and_calls_are_passed_over(tcp_server: RedisServer) -> None:
    options = "max_connections=2&timeout=1&decode_responses=yes&health_check_interval=1&protocol=3"
    url = f"redis://127.0.0.1:{tcp_server.port}/0?client_name=things&{options}"
    reply = await ask(url, "CLIENT", "LIST")
    assert isinstance(reply, bytes)
    assert b"name=things" in reply


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:6379",
        "http://localhost",
        "redis:/localhost",
        "redis://localhost:99999",
        "redis://localhost:port",
        "redis://localhost:0",
        "redis://localhost/things",
        "unix://",
        "redis://[::1",
        f"redis://user:{SECRET}@localhost",
        "redis://localhost?db=three",
        "redis://localhost?no_such_option=1",
        "rediss://localhost?ssl_cert_reqs=perhaps",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="^redis: ") as caught:
        Link(url, 1.0)
    told = "".join(traceback.format_exception(caught.value))
    for part in ("s3cr", "p@ss"):
        assert part not in told


def test_an_option_that_nobody_knows_is_told_from_a_url_that_is_none() -> None:
    with pytest.raises(ConfigError, match="an option is unknown, or its value cannot be used"):
        Link("redis://localhost?no_such_option=1", 1.0)


# --- clients ---


def clients_of(server: RedisServer) -> dict[str, Redis]:
    return {
        "plain": Redis.from_url(server.url),
        "decoding and retrying": Redis.from_url(
            server.url, decode_responses=True, retry=Retry(ConstantBackoff(1), 10), health_check_interval=1
        ),
        "RESP3": Redis.from_url(server.url, protocol=3),
        "blocking pool": Redis(
            connection_pool=BlockingConnectionPool.from_url(server.url, max_connections=1)
        ),
        "a single connection": Redis.from_url(server.url, single_connection_client=True),
        "by arguments": Redis(unix_socket_path=str(server.socket)),
    }


@pytest.mark.parametrize(
    "kind",
    ["plain", "decoding and retrying", "RESP3", "blocking pool", "a single connection", "by arguments"],
)
async def test_of_a_client_the_settings_are_taken(kind: str, server: RedisServer, client: Redis) -> None:
    async with clients_of(server)[kind] as given:
        async with Publisher(given, STREAM) as publisher:
            entry_id = await publisher.send(numbered(1))
        assert isinstance(entry_id, str)
        assert await stored_ids(client) == ["0000001"]


async def test_the_connections_are_our_own(server: RedisServer, client: Redis) -> None:
    async with Redis.from_url(server.url, max_connections=1) as given:
        async with Publisher(given, STREAM):
            assert await given.ping()
        assert await given.ping()


async def test_credentials_may_come_from_a_provider(locked_server: RedisServer) -> None:
    class Vault(CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            return (SECRET,)

    given = Redis(host="127.0.0.1", port=locked_server.port or 0, credential_provider=Vault())
    assert await ask(given, "PING") == b"PONG"


async def test_a_provider_that_fails_is_asked_again(locked_server: RedisServer) -> None:
    class Vault(CredentialProvider):
        asked = 0

        def get_credentials(self) -> tuple[str]:
            self.asked += 1
            if self.asked < 3:
                raise LookupError(f"sealed, {SECRET}")
            return (SECRET,)

    given = Redis(host="127.0.0.1", port=locked_server.port or 0, credential_provider=Vault())
    recorder = Recorder()
    async with Publisher(given, STREAM, backoff=SHORT, hooks=recorder) as publisher:
        await publisher.send(numbered(1))
    assert "cannot be reached: LookupError was raised" in recorder.retries[0].reason
    assert SECRET not in recorder.retries[0].reason


@pytest.mark.parametrize(
    "rubbish",
    [
        None,
        5,
        b"redis://localhost",
        redis.Redis(),
        ConnectionPool(),
        Sentinel([("localhost", 26379)]),
        Redis,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_client_is_refused(rubbish: object) -> None:
    with pytest.raises(ConfigError, match="^redis: a URL or a client of redis.asyncio is wanted"):
        Publisher(rubbish, STREAM)  # type: ignore[arg-type]


# --- Sentinel, cluster ---


async def test_the_master_is_found_by_sentinel_also_after_a_failover(tmp_path: Path) -> None:
    at_once = {"repl-diskless-sync-delay": 0}
    async with redis_server(tcp=True, config=at_once) as master, redis_server(tcp=True) as replica:
        await replica.command("REPLICAOF", str(master.host), str(master.port))

        async def following() -> bool:
            return b"state=online" in await master.command("INFO", "replication")

        await wait_until(following)
        async with sentinel(master, tmp_path) as watcher:
            finder = Sentinel([(str(watcher.host), int(watcher.port or 0))])
            given = finder.master_for("events")
            async with Publisher(given, STREAM, backoff=SHORT, attempt_timeout=1.0) as publisher:
                await publisher.send(numbered(1))

                async def ready() -> bool:
                    known = await watcher.command("SENTINEL", "REPLICAS", "events")
                    # What was not replicated yet would be lost.
                    return bool(known) and await replica.command("XLEN", STREAM) == 1

                await wait_until(ready)
                await master.kill()
                await asyncio.wait_for(publisher.send(numbered(2)), PATIENCE)
            assert publisher.stats.undelivered == 0
            async with Redis(host=str(replica.host), port=replica.port or 0) as there:
                assert await stored_ids(there) == ["0000001", "0000002"]
            await given.aclose()


async def test_sentinels_that_are_dead_or_hang_cost_no_time(tcp_server: RedisServer, tmp_path: Path) -> None:
    async with sentinel(tcp_server, tmp_path) as watcher, redis_server(tcp=True) as hung:
        hung.hang()
        dead = ("127.0.0.1", nobody_listens())
        addresses = [dead, (str(hung.host), hung.port), dead, (str(watcher.host), watcher.port)]
        finder = Sentinel(addresses)
        assert await ask(finder.master_for("events"), "PING", timeout=1.0) == b"PONG"


async def test_of_the_sentinels_that_were_asked_no_connection_is_left(
    tcp_server: RedisServer, tmp_path: Path
) -> None:
    async with sentinel(tcp_server, tmp_path) as watcher:
        finder = Sentinel([(str(watcher.host), int(watcher.port or 0))] * 2)
        async with Publisher(finder.master_for("events"), STREAM) as publisher:
            await publisher.send(numbered(1))
            await no_clients_left(watcher)


async def test_where_no_sentinel_answers_that_is_told() -> None:
    finder = Sentinel([("127.0.0.1", nobody_listens()), ("127.0.0.1", nobody_listens())])
    with pytest.raises(Unreachable, match="the master 'events' of Sentinel is not known: no Sentinel that"):
        await ask(finder.master_for("events"), "PING")


async def test_a_name_that_sentinel_does_not_know_may_come(tcp_server: RedisServer, tmp_path: Path) -> None:
    async with sentinel(tcp_server, tmp_path) as watcher:
        finder = Sentinel([(str(watcher.host), int(watcher.port or 0))])
        with pytest.raises(Unreachable, match="the master 'other' of Sentinel is not known"):
            await ask(finder.master_for("other"), "PING")


def test_a_client_for_replicas_is_refused() -> None:
    with pytest.raises(ConfigError, match="^redis: a client for replicas cannot write"):
        Link(Sentinel([("localhost", 26379)]).slave_for("events"), 1.0)


async def test_in_a_cluster_the_node_of_the_stream_is_found_also_after_a_move() -> None:
    async with cluster() as nodes:
        first = nodes[0]
        slot = await first.command("CLUSTER", "KEYSLOT", STREAM)
        owner = nodes[slot * len(nodes) // 16384]
        other = next(node for node in nodes if node is not owner)
        async with RedisCluster(host=str(first.host), port=first.port or 0) as given:
            async with Publisher(given, STREAM, backoff=LONG, hooks=(recorder := Recorder())) as publisher:
                await publisher.send(numbered(1))
                assert await owner.command("DEL", STREAM) == 1
                await give_slot(nodes, slot, other)
                await asyncio.wait_for(publisher.send(numbered(2)), PATIENCE)
            assert publisher.stats.undelivered == 0
            assert [(each.reason.split()[0], each.wait) for each in recorder.retries] == [("MOVED", 0.0)]
        async with Redis(host=str(other.host), port=other.port or 0) as there:
            assert await stored_ids(there) == ["0000002"]


async def test_a_slot_that_no_node_serves_may_come_back() -> None:
    async with cluster() as nodes:
        slot = await nodes[0].command("CLUSTER", "KEYSLOT", STREAM)
        for node in nodes:
            await node.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
            await node.command("CLUSTER", "DELSLOTS", slot)
        async with RedisCluster(
            host=str(nodes[0].host), port=nodes[0].port or 0, require_full_coverage=False
        ) as given:
            with pytest.raises(Unreachable, match=f"^the cluster cannot be reached: .*{slot}"):
                await ask(given, "PING")


async def test_a_cluster_that_is_down_may_come_back() -> None:
    given = RedisCluster(host="127.0.0.1", port=nobody_listens())
    with pytest.raises(Unreachable, match="^the cluster cannot be reached"):
        await ask(given, "PING")


# --- what cannot work ---


async def test_a_port_where_nobody_listens() -> None:
    with pytest.raises(Unreachable, match=r"redis at 127\.0\.0\.1:\d+, database 0 cannot be reached"):
        await ask(f"redis://127.0.0.1:{nobody_listens()}", "PING")


async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        await ask(f"unix://{tmp_path}/none", "PING")


async def test_a_host_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    with pytest.raises(ConfigError, match="redis at nowhere:6379, database 0: the host name is not known"):
        await ask("redis://nowhere:6379", "PING")


async def test_a_host_that_can_be_no_name() -> None:
    with pytest.raises(ConfigError, match=r"redis at a\.\.b:6379, database 0"):
        await ask("redis://a..b:6379", "PING")


@pytest.mark.parametrize("credentials", [":wrong", "nobody:wrong"])
async def test_credentials_that_the_server_refuses(locked_server: RedisServer, credentials: str) -> None:
    url = f"redis://{credentials}@127.0.0.1:{locked_server.port}"
    with pytest.raises(AccessRefused, match="check the user and the password") as caught:
        await Publisher(url, STREAM).start()
    assert "wrong" not in str(caught.value)


async def test_a_server_that_wants_a_password_where_none_is_given(locked_server: RedisServer) -> None:
    with pytest.raises(AccessRefused, match=r"redis at 127\.0\.0\.1:\d+, database 0: .*password"):
        await Publisher(f"redis://127.0.0.1:{locked_server.port}", STREAM).start()


async def test_a_server_that_hangs_is_given_up_in_time(fresh_server: RedisServer) -> None:
    fresh_server.hang()
    with pytest.raises(Unreachable, match=r"did not answer in 0\.1 s"):
        await ask(fresh_server.url, "PING", timeout=0.1)


async def test_a_server_that_has_no_room_for_another_client(fresh_server: RedisServer) -> None:
    async with Redis.from_url(fresh_server.url) as holder:
        await holder.config_set("maxclients", 1)
        with pytest.raises((Unreachable, Disconnected)):
            await ask(fresh_server.url, "PING")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"+OK\r\n" * 9], ids=["HTTP", "nothing", "too much"]
)
async def test_something_else_listens_there(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)

    async with listening(serve) as port:
        with pytest.raises((Unreachable, Disconnected)):
            await ask(f"redis://127.0.0.1:{port}", "PING")


# --- the connection ---


async def opened(server: RedisServer, patience: float = 2.0) -> Channel:
    return await Link(server.url, 2.0).open(STREAM, patience)


async def test_replies_come_in_the_order_of_the_commands(server: RedisServer) -> None:
    channel = await opened(server)
    both = await asyncio.gather(
        channel.exchange(command("ECHO", "a") + command("ECHO", "b"), 2),
        channel.exchange(command("ECHO", "c"), 1),
    )
    assert both == [[b"a", b"b"], [b"c"]]
    await channel.aclose()


async def test_a_cancelled_exchange_ends_the_connection(server: RedisServer) -> None:
    channel = await opened(server)
    blocked = asyncio.create_task(channel.exchange(command("BLPOP", "none", 0), 1))
    await asyncio.sleep(0)
    blocked.cancel()
    await asyncio.wait([blocked])
    assert blocked.cancelled()
    assert not channel.alive
    await channel.aclose()


async def test_a_silent_server_ends_the_connection(server: RedisServer) -> None:
    channel = await opened(server, 0.05)
    with pytest.raises(Disconnected, match=r"no reply in 0\.05 s"):
        await channel.exchange(command("BLPOP", "none", 0), 1)
    await channel.aclose()


async def test_replies_that_came_before_the_end_are_kept(server: RedisServer) -> None:
    channel = await opened(server, 0.05)
    with pytest.raises(Disconnected) as caught:
        await channel.exchange(command("ECHO", "a") + command("BLPOP", "none", 0), 2)
    assert caught.value.replies == [b"a"]
    await channel.aclose()


async def test_what_the_server_says_before_it_ends_the_connection_is_told(server: RedisServer) -> None:
    channel = await opened(server)
    with pytest.raises(Disconnected, match="after it had said: ERR Protocol error: invalid bulk length"):
        await channel.exchange(command("PING") + b"*1\r\n$-7\r\n", 3)
    await channel.aclose()


async def test_a_reply_that_nobody_asked_for_ends_the_connection(server: RedisServer) -> None:
    channel = await opened(server)
    await channel.exchange(command("SUBSCRIBE", "news"), 1)
    await server.command("PUBLISH", "news", "what is this?")
    await wait_until(lambda: not channel.alive)
    with pytest.raises(Disconnected, match="a reply that nobody asked for"):
        await channel.exchange(command("PING"), 1)
    await channel.aclose()


async def test_what_is_no_reply_ends_the_connection(server: RedisServer) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The server, but for an answer to ECHO."""
        from_server, to_server = await asyncio.open_unix_connection(str(server.socket))
        while (request := await reader.read(65536)) and b"ECHO" not in request:
            to_server.write(request)
            writer.write(await from_server.read(65536))
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        to_server.close()

    async with listening(serve) as port:
        with pytest.raises(Disconnected, match="the server sent what is no reply"):
            await ask(f"redis://127.0.0.1:{port}", "ECHO", "hello")


async def test_a_connection_that_ended_takes_no_more(server: RedisServer) -> None:
    channel = await opened(server)
    channel.abort("enough")
    with pytest.raises(Disconnected, match="enough"):
        await channel.exchange(command("PING"), 1)
    await channel.aclose()


async def test_close_leaves_no_connection(fresh_server: RedisServer) -> None:
    channel = await opened(fresh_server)
    await channel.exchange(command("PING"), 1)
    await channel.aclose()
    await no_clients_left(fresh_server)
    assert not channel.alive


# --- a connection that ends ---


def line_to(server: RedisServer, recorder: Recorder, backoff: Backoff = SHORT) -> Line:
    settings: dict[str, Any] = {"backoff": backoff, "patience": 2.0, "observers": Observers([recorder])}
    return Line(Link(server.url, 2.0), STREAM, stream=STREAM, what="append", **settings)


async def test_a_connection_that_worked_and_was_closed_since_is_made_again_at_once_another_one_is_not(
    server: RedisServer, client: Redis
) -> None:
    line = line_to(server, recorder := Recorder())

    async def closed() -> None:
        channel = await line.channel()
        await client.client_kill_filter(_type="normal", skipme=True)
        await wait_until(lambda: not channel.alive)

    await line.channel()
    line.worked()
    await closed()
    await closed()
    assert len(recorder.reconnects) == 1
    with pytest.raises(Unreachable, match="ended a connection before it was of use"):
        await line.channel()
    await line.disconnect()


async def test_what_another_server_does_already_is_tried_at_once_and_then_after_waits_that_grow(
    server: RedisServer,
) -> None:
    line = line_to(server, recorder := Recorder(), LONG)
    line.worked()
    for _ in range(3):
        await line.rest(Refusal("READONLY You can't write against a read only replica."))
    first, *later = [each.wait for each in recorder.retries]
    assert first == 0.0
    assert 0 < later[0] <= SOON <= later[1] <= 2 * SOON


async def test_what_is_over_within_moments_is_waited_for_shortly_also_where_nothing_worked_yet(
    server: RedisServer,
) -> None:
    line = line_to(server, recorder := Recorder(), LONG)
    await line.rest(Refusal("TRYAGAIN Multiple keys request during rehashing of slot"))
    await line.rest(Refusal("CLUSTERDOWN The cluster is down"))
    first, later = [each.wait for each in recorder.retries]
    assert 0 < first <= SOON
    assert 0 < later <= 2 * SOON


async def test_for_a_slot_nobody_waits_long(server: RedisServer) -> None:
    line = line_to(server, Recorder(), LONG)
    moving = Refusal("TRYAGAIN Multiple keys request during rehashing of slot")
    replica = Refusal("READONLY You can't write against a read only replica.")
    assert max([await line._prescribed(moving) for _ in range(20)]) == SLOT_WAIT
    assert await line._prescribed(replica) > SLOT_WAIT
