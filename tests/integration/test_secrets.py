"""No password, and no part of a URL's user info, is in anything that is raised, logged, reported or shown."""

from __future__ import annotations

import asyncio
import logging
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

import consuming
import histories
from clusters import cluster, sentinel, tls_in_front_of
from listening import listening
from mainflux_events import Backoff, EventsError, Hooks, Publisher, Subscriber
from mainflux_events.link import Server
from mainflux_events.testing import RedisServer, redis_server
from support import nobody_listens, wait_until

USER = "wr1ter"
SECRET = "s3cr€t/p@ss"
QUOTED = quote(SECRET, safe="")
SECRETS = (SECRET, QUOTED, USER, *(repr(each)[1:-1] for each in (SECRET.encode(), QUOTED)))
STREAM = "things"
SHORT = Backoff(initial=0.01, maximum=0.05)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.service.BACKOFF", SHORT)
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.5)
    monkeypatch.setattr("mainflux_events.reader.BLOCK_MS", 50)


class Told:
    """Collects all that the two sides say, to whomever."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._shown: list[str] = []
        caplog.set_level(logging.DEBUG)  # of all loggers: also of redis-py and asyncio

    def by(self, *shown: object) -> None:
        """It is shown like this; an exception with all that it came from."""
        for each in shown:
            if isinstance(each, BaseException):
                self._shown += traceback.format_exception(each)
            self._shown += [repr(each), str(each)]

    def check(self) -> None:
        text = "\n".join([*self._shown, self._caplog.text])
        assert "mainflux_events" in text, "nothing was said"
        for secret in SECRETS:
            assert secret not in text, next(line for line in text.splitlines() if secret in line)


@pytest.fixture
async def told(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Told]:
    asyncio.get_running_loop().set_debug(True)
    collected = Told(caplog)
    yield collected
    collected.check()


@pytest.fixture
async def locked() -> AsyncIterator[RedisServer]:
    """A server with a user who may do everything."""
    async with redis_server(tcp=True) as server:
        await server.command("ACL", "SETUSER", USER, "on", f">{SECRET}", "~*", "&*", "+@all")
        yield server


def url_of(server: RedisServer, password: str = QUOTED) -> str:
    return f"redis://{USER}:{password}@127.0.0.1:{server.port}/0"


async def both_sides(
    server: Server, told: Told, trouble: Callable[[], Awaitable[object]] | None = None
) -> None:
    """Start both sides and use them, with what comes over the server meanwhile; collect what they say."""
    for side in (publishing, subscribing):
        try:
            await side(server, told, trouble)
        except EventsError as error:
            told.by(error)


async def publishing(server: Server, told: Told, trouble: Callable[[], Awaitable[object]] | None) -> None:
    seen = histories.Recorder()
    settings: dict[str, Any] = {"backoff": SHORT, "attempt_timeout": 0.5, "close_timeout": 0.1}
    publisher = Publisher(server, STREAM, hooks=seen, **settings)
    told.by(publisher)
    try:
        async with publisher:
            if trouble is not None:
                await trouble()
            publisher.publish_nowait(histories.numbered(1))
            await wait_until(lambda: seen.retries)
    finally:
        told.by(publisher, publisher.stats, seen.retries, seen.lost_undelivered, vars(publisher))


async def subscribing(server: Server, told: Told, trouble: Callable[[], Awaitable[object]] | None) -> None:
    seen = consuming.Recorder()
    subscriber = Subscriber(server, STREAM, "audit", start="earliest", hooks=seen)
    told.by(subscriber)
    try:
        async with subscriber:
            if trouble is not None:
                await trouble()
            await wait_until(lambda: seen.of("retrying"))
            try:
                await subscriber.lag()
            except EventsError as error:
                told.by(error)
    finally:
        told.by(subscriber, subscriber.stats, seen.seen, vars(subscriber))


# --- at start -------------------------------------------------------------------------------------------------------


async def test_of_a_password_that_is_wrong(locked: RedisServer, told: Told) -> None:
    await locked.command("ACL", "SETUSER", USER, "resetpass", ">another")
    await both_sides(url_of(locked), told)


async def test_of_a_password_where_none_is_wanted(told: Told) -> None:
    async with redis_server(tcp=True) as server:
        await both_sides(f"redis://:{QUOTED}@127.0.0.1:{server.port}", told)


@pytest.mark.parametrize("url", ["redis://:{}@127.0.0.1:{}/0", f"redis://{USER}:{{}}@127.0.0.1:{{}}/0"])
async def test_where_the_server_repeats_what_it_does_not_know(url: str, told: Told) -> None:
    async with redis_server(tcp=True, config={"rename-command": 'AUTH ""'}) as server:
        await both_sides(url.format(QUOTED, server.port), told)


@pytest.mark.parametrize("rights", [("-@all",), ("-xadd", "-xread"), ("resetkeys", "~others")])
async def test_of_rights_that_are_missing(rights: tuple[str, ...], locked: RedisServer, told: Told) -> None:
    await locked.command("ACL", "SETUSER", USER, *rights)
    await both_sides(url_of(locked), told)


async def test_of_a_database_that_is_not_there(locked: RedisServer, told: Told) -> None:
    await both_sides(url_of(locked).replace("/0", "/99"), told)


async def test_where_nobody_is_there(told: Told) -> None:
    await both_sides(f"redis://{USER}:{QUOTED}@127.0.0.1:{nobody_listens()}/0", told)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n$99\r\n", b"*-7\r\n"])
async def test_where_something_else_is_there(answer: bytes, told: Told) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)

    async with listening(serve) as port:
        await both_sides(f"redis://{USER}:{QUOTED}@127.0.0.1:{port}/0", told)


@pytest.mark.filterwarnings("ignore:SSL_OP")
async def test_of_a_certificate_that_is_not_trusted(locked: RedisServer, told: Told) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with redis_server() as server, tls_in_front_of(server, context) as port:
        await both_sides(f"rediss://{USER}:{QUOTED}@localhost:{port}", told)


# --- while it runs --------------------------------------------------------------------------------------------------


async def changed_password(server: RedisServer) -> None:
    await server.command("ACL", "SETUSER", USER, "resetpass", ">another")
    await server.command("CLIENT", "KILL", "USER", USER)


async def lost_rights(server: RedisServer) -> None:
    await server.command("ACL", "SETUSER", USER, "-xadd", "-xread")


async def locked_out(server: RedisServer) -> None:
    await server.command("ACL", "SETUSER", USER, "off")
    await server.command("CLIENT", "KILL", "USER", USER)


async def killed(server: RedisServer) -> None:
    await server.kill()


async def hung(server: RedisServer) -> None:
    server.hang()


async def another_type(server: RedisServer) -> None:
    await server.command("SET", STREAM, "no stream")


@pytest.mark.parametrize("trouble", [changed_password, lost_rights, locked_out, killed, hung, another_type])
@pytest.mark.parametrize("side", [publishing, subscribing])
async def test_of_what_comes_over_the_server(
    trouble: Callable[[RedisServer], Awaitable[None]], side: Any, locked: RedisServer, told: Told
) -> None:
    await side(url_of(locked), told, lambda: trouble(locked))


async def test_of_a_background_task_that_dies(
    locked: RedisServer, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("unforeseen")

    publisher = Publisher(url_of(locked), STREAM)
    monkeypatch.setattr(publisher._lanes[0].ledger, "note_acknowledged", broken)
    await publisher.start()
    publisher.publish_nowait(histories.numbered(1))
    with pytest.raises(EventsError) as caught:
        await publisher.flush()
    told.by(caught.value)
    with pytest.raises(EventsError) as caught:
        await publisher.aclose()
    told.by(caught.value)


async def test_of_a_hook_and_a_handler_that_fail(locked: RedisServer, told: Told) -> None:
    class Failing(Hooks):
        def handler_failed(self, details: object) -> None:
            raise LookupError("of the hook")

    def handle(event: object) -> None:
        raise LookupError("of the handler")

    async with Redis.from_url(f"redis://127.0.0.1:{locked.port}") as client:
        await consuming.append(client, "t1")
    subscriber = Subscriber(url_of(locked), STREAM, "audit", start="earliest", hooks=Failing())
    with pytest.raises(EventsError) as caught:
        await subscriber.run(handle, on_failure="raise")
    told.by(caught.value)


# --- other ways to give it ------------------------------------------------------------------------------------------


def clients_of(port: int) -> dict[str, Redis]:
    class Vault(CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            return USER, SECRET

    class Sealed(CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            raise LookupError(f"sealed: {SECRET}")

    at: dict[str, Any] = {"host": "127.0.0.1", "port": port}
    return {
        "arguments": Redis(**at, username=USER, password=SECRET),
        "a provider": Redis(**at, credential_provider=Vault()),
        "a provider that fails": Redis(**at, credential_provider=Sealed()),
        "a URL": Redis.from_url(f"redis://{USER}:{QUOTED}@127.0.0.1:{port}/0"),
    }


@pytest.mark.parametrize("kind", ["arguments", "a provider", "a provider that fails", "a URL"])
async def test_of_a_client(kind: str, locked: RedisServer, told: Told) -> None:
    await locked.command("ACL", "SETUSER", USER, "resetpass", ">another")
    await both_sides(clients_of(locked.port or 0)[kind], told)


@pytest.mark.parametrize("wrong", ["the master's", "the sentinel's", "the name"])
async def test_of_sentinel(wrong: str, locked: RedisServer, told: Told, tmp_path: Path) -> None:
    async with sentinel(locked, tmp_path) as watcher, AsyncExitStack() as stack:
        await watcher.command("ACL", "SETUSER", USER, "on", f">{SECRET}", "~*", "&*", "+@all")
        if wrong != "the name":
            server = locked if wrong == "the master's" else watcher
            await server.command("ACL", "SETUSER", USER, "resetpass", ">another")
        finder = Sentinel(
            [(str(watcher.host), int(watcher.port or 0))],
            sentinel_kwargs={"username": USER, "password": SECRET, "retry": Retry(NoBackoff(), 0)},
            username=USER,
            password=SECRET,
        )
        for each in finder.sentinels:
            stack.push_async_callback(each.aclose)
        await both_sides(finder.master_for("other" if wrong == "the name" else "events"), told)


@pytest.mark.parametrize("wrong", ["the password", "no slot", "nobody there"])
async def test_of_a_cluster(wrong: str, told: Told) -> None:
    async with cluster(1) as nodes:
        password = "another" if wrong == "the password" else SECRET
        for node in nodes:
            await node.command("ACL", "SETUSER", USER, "on", f">{password}", "~*", "&*", "+@all")
            if wrong == "no slot":
                await node.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
                await node.command("CLUSTER", "FLUSHSLOTS")
        port = nobody_listens() if wrong == "nobody there" else nodes[0].port or 0
        given = RedisCluster(
            host="127.0.0.1", port=port, username=USER, password=SECRET, require_full_coverage=False
        )
        await both_sides(given, told)
        await given.aclose()
