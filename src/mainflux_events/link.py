"""The way to the server: connections made by redis-py, bytes out, replies in order. The only module that uses redis.

redis-py makes the connection: address, TLS, credentials, database, Sentinel and cluster discovery are its own. Then
its transport is taken over: commands are written as packed, and replies are parsed in bulk as they arrive. Through
redis-py's own calls each reply would cost an await, and a retried pipeline would append again what was acknowledged.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import hiredis
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import AccessRefused, ConfigError
from .refusals import Refusal

Server: TypeAlias = "str | Redis | RedisCluster"

# What a reply is parsed to. Error replies are `Refusal`s, also within an array.
Reply: TypeAlias = "bytes | int | list[Any] | Refusal | None"

_SCHEMES: Final = ("redis", "rediss", "unix")

# Settings of the user's client that are about its own way of calling and pooling.
_FOREIGN: Final = frozenset(
    {
        "connection_pool",
        "max_connections",
        "timeout",
        "retry_on_error",
        "retry_on_timeout",
        "response_callbacks",
    }
)
_FOREIGN_PREFIXES: Final = ("maint", "oss_cluster_maint", "orig_", "himport_", "event_dispatcher")


class Unreachable(Exception):
    """No connection could be made; a later attempt may succeed."""


class Disconnected(Exception):
    """The connection ended before all replies were there.

    Attributes:
        reason: why.
        replies: those that did arrive.
    """

    def __init__(self, reason: str, replies: list[Reply]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.replies = replies


# --- addresses ------------------------------------------------------------------------------------------------------


class Link:
    """Where to connect to.

    Args:
        server: a URL, or a client of redis-py's asyncio, of which only the settings or the discovery are taken.
        timeout: seconds that making one connection may take, the handshake included.

    Raises:
        ConfigError: it is neither, or its settings cannot work.
    """

    def __init__(self, server: Server, timeout: float) -> None:
        self._timeout = timeout
        self._cluster: RedisCluster | None = None
        self._pool: Any = None
        self._stale = False
        if isinstance(server, RedisCluster):
            self._cluster = server
            self.where = "the cluster"
            return
        self._pool = self._pool_of(server)
        try:
            settings = self._pool.make_connection()
        except Exception as error:
            raise ConfigError(f"redis: these settings make no connection: {type(error).__name__}") from None
        self.where = _where(settings)

    def _pool_of(self, server: Server) -> Any:
        if isinstance(server, str):
            settings = dict(_parsed(server))
            connection_class = settings.pop("connection_class", None)
            extra = {} if connection_class is None else {"connection_class": connection_class}
            return ConnectionPool(**extra, **self._settings(settings))
        if not isinstance(server, Redis):
            raise ConfigError(
                "redis: a URL or a client of redis.asyncio is wanted (Redis, RedisCluster, or what Sentinel.master_for "
                f"gives), not {type(server).__module__}.{type(server).__name__}"
            )
        pool = server.connection_pool
        settings = self._settings(pool.connection_kwargs)
        if isinstance(pool, SentinelConnectionPool):
            if not pool.is_master:
                raise ConfigError("redis: a client for replicas cannot write: use Sentinel.master_for")
            return SentinelConnectionPool(  # type: ignore[no-untyped-call]
                pool.service_name, pool.sentinel_manager, connection_class=pool.connection_class, **settings
            )
        return ConnectionPool(connection_class=pool.connection_class, **settings)

    def _settings(self, settings: Any) -> dict[str, Any]:
        kept = {
            name: value
            for name, value in settings.items()
            if name not in _FOREIGN and not name.startswith(_FOREIGN_PREFIXES)
        }
        return kept | {
            "decode_responses": False,
            "health_check_interval": 0,
            "protocol": 2,  # no pushes, so no maintenance notifications between the replies
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": self._timeout,
            "socket_timeout": self._timeout,
        }

    async def open(self, key: str, patience: float) -> Channel:
        """A connection to the server that holds this key.

        Args:
            key: the key of a stream.
            patience: seconds that the server may be silent while a reply is due.

        Raises:
            AccessRefused: the credentials are refused.
            ConfigError: the server or its certificate can never be the right one.
            Unreachable: nobody answers, at the moment.
        """
        connection: Any = None
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connection(key)
                await connection.connect()
            return Channel(connection, patience)
        except BaseException as error:
            if connection is not None:
                await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError | exceptions.TimeoutError):
                raise Unreachable(f"{self.where} did not answer in {self._timeout:g} s") from None
            if isinstance(error, exceptions.RedisError | exceptions.RedisClusterException | OSError):
                raise _why_not_connected(self.where, error) from None
            raise

    async def ask(self, key: str, patience: float, packed: bytes) -> Reply:
        """One command on a connection of its own. Raises what `open` does, and `Disconnected`."""
        channel = await self.open(key, patience)
        try:
            [reply] = await channel.exchange(packed, 1)
            return reply
        finally:
            await channel.aclose()

    @property
    def sharded(self) -> bool:
        """Whether two keys may be on two servers, and are at least in two slots."""
        return self._cluster is not None

    def rediscover(self) -> None:
        """What is known of the cluster is out of date. (Sentinel is asked at every connection.)"""
        self._stale = True

    async def _connection(self, key: str) -> Any:
        if self._pool is not None:
            return self._pool.make_connection()
        assert self._cluster is not None
        await self._cluster.initialize()
        if self._stale:
            await self._cluster.nodes_manager.initialize()
            self._stale = False
        node = self._cluster.get_node_from_key(key)
        if node is None:
            raise Unreachable(f"{self.where} has no node for the slot of {key!r}")
        return node.connection_class(**self._settings(node.connection_kwargs))


def _parsed(url: str) -> Any:
    # Nothing of the URL goes into a message: where it is malformed, any part of it may be the password.
    try:
        scheme = urlsplit(url).scheme
        if scheme in _SCHEMES:
            return parse_url(url)
    except ValueError:
        raise ConfigError(
            "redis: the URL cannot be parsed; special characters in a password are written percent-encoded"
        ) from None
    raise ConfigError("redis: the URL must begin with redis://, rediss:// or unix://")


def _where(connection: Any) -> str:
    path = getattr(connection, "path", None)
    return f"redis at {path or f'{connection.host}:{connection.port}'}, database {connection.db}"


def _why_not_connected(where: str, error: BaseException) -> Exception:
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return ConfigError(
            f"{where}: its certificate is not trusted; set ssl_ca_certs to the CA that signed it"
        )
    unresolved = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
    if any(isinstance(cause, socket.gaierror) and cause.errno in unresolved for cause in causes):
        return ConfigError(f"{where}: the host name is not known")
    if isinstance(
        error,
        exceptions.AuthenticationError
        | exceptions.AuthorizationError
        | exceptions.NoPermissionError
        | exceptions.AuthenticationWrongNumberOfArgsError,
    ):
        return AccessRefused(
            where, f"the server refuses the credentials ({error}); check the user and the password"
        )
    if isinstance(error, exceptions.ResponseError) and "DB index" in str(error):
        return ConfigError(f"{where}: the server has no such database")
    return Unreachable(f"{where} cannot be reached: {error}")


# --- connections ----------------------------------------------------------------------------------------------------


class _Exchange:
    """What was written together, and the replies it waits for."""

    __slots__ = ("answer", "replies", "wanted")

    def __init__(self, wanted: int, answer: asyncio.Future[list[Reply]]) -> None:
        self.wanted = wanted
        self.replies: list[Reply] = []
        self.answer = answer


class Channel(asyncio.Protocol):
    """One connection. Exchanges are answered in the order they were written in.

    Args:
        connection: a connection of redis-py that was just made; its transport is taken over.
        patience: seconds that the server may be silent while a reply is due.

    Attributes:
        received: how many bytes have come.
    """

    def __init__(self, connection: Any, patience: float) -> None:
        # `_writer` is the one private name of redis-py that is used: it has no other way to the transport.
        self._connection = connection
        self._transport: asyncio.Transport = connection._writer.transport
        self._streams = self._transport.get_protocol()
        self._patience = patience
        self._reader = hiredis.Reader(replyError=Refusal)
        self._exchanges: deque[_Exchange] = deque()
        self._reason = "the server closed the connection"
        self._loop = asyncio.get_running_loop()
        self._heard = 0.0
        self.received = 0
        self._watch: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._transport.set_protocol(self)

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        return not self._transport.is_closing()

    def submit(self, payload: bytes, wanted: int) -> asyncio.Future[list[Reply]]:
        """Write packed commands. The future gets their replies, that many, or `Disconnected`."""
        answer: asyncio.Future[list[Reply]] = self._loop.create_future()
        if not self.alive:
            answer.set_exception(Disconnected(self._reason, []))
            return answer
        if not self._exchanges:
            self._heard = self._loop.time()
        self._exchanges.append(_Exchange(wanted, answer))
        self._transport.write(payload)
        if self._watch is None:
            self._watch = self._loop.call_later(self._patience, self._check)
        return answer

    async def exchange(self, payload: bytes, wanted: int) -> list[Reply]:
        """Write packed commands and wait for their replies. Cancelled, it ends the connection.

        Raises:
            Disconnected: the connection ended, or the server was silent for too long.
        """
        try:
            return await self.submit(payload, wanted)
        except asyncio.CancelledError:
            self.abort("the call was cancelled")
            raise

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        if self.alive:
            self._reason = reason
            self._transport.abort()

    async def aclose(self) -> None:
        """End the connection, and wait for the end, which is a turn of the loop away."""
        self.abort("it was closed")
        await self._connection.disconnect(nowait=True)
        await asyncio.wait([self._ended], timeout=1.0)

    def _check(self) -> None:
        self._watch = None
        if self._exchanges:
            silent = self._loop.time() - self._heard
            if silent < self._patience:
                self._watch = self._loop.call_later(self._patience - silent, self._check)
            else:
                self.abort(f"no reply in {self._patience:g} s")

    # The callbacks of asyncio.Protocol.

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self.received += len(data)
        self._reader.feed(data)
        exchanges = self._exchanges
        try:
            while (reply := self._reader.gets()) is not False:
                exchange = exchanges[0]
                exchange.replies.append(reply)
                if len(exchange.replies) == exchange.wanted:
                    exchanges.popleft()
                    if not exchange.answer.done():
                        exchange.answer.set_result(exchange.replies)
        except IndexError:
            self.abort("the server sent a reply that nobody asked for")
        except hiredis.HiredisError as error:
            self.abort(f"the server sent what is no reply: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = str(exc) or type(exc).__name__
        if self._watch is not None:
            self._watch.cancel()
        for exchange in self._exchanges:
            if not exchange.answer.done():
                exchange.answer.set_exception(Disconnected(self._reason, exchange.replies))
        self._exchanges.clear()
        if not self._ended.done():
            self._ended.set_result(None)
        # redis-py's own objects are told, so that they too know that it is over.
        self._streams.connection_lost(exc)
