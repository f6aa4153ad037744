"""The way to the server: how connections are made. The only module that uses redis.

redis-py makes the connection: address, TLS, credentials, database, Sentinel and cluster discovery are its own. Then a
`Channel` takes over its transport.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from .channel import AskingChannel, Channel, Disconnected, Reply
from .errors import AccessRefused, ConfigError
from .inmemory import Memory
from .refusals import Address, Refusal
from .resp import command

__all__ = ["Channel", "Disconnected", "Link", "Node", "Reply", "Server", "Unreachable"]

Server: TypeAlias = "str | Redis | RedisCluster"

_UNKNOWN_HOST: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
_CREDENTIALS_REFUSED: Final = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
    exceptions.AuthenticationWrongNumberOfArgsError,
)
_BEGINNINGS: Final = ("redis://", "rediss://", "unix://")

# OpenSSL's words for an answer that is not TLS.
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")

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
        self._discovery = asyncio.Lock()
        if isinstance(server, RedisCluster):
            self._cluster = server
            self.where: str = "the cluster"
            return
        if isinstance(server, str) and server.startswith("memory:"):
            self._pool = Memory(server)
            self.where = server
            return
        self._pool = self._pool_of(server)
        try:
            sample = self._pool.make_connection()
        except Exception:
            # Options go to whatever class they are for, also a user's own, and each complains in its own way. Which one
            # is not said: where a password was not percent-encoded, the rest of it looks like options.
            raise ConfigError("redis: an option is unknown, or its value cannot be used") from None
        _check_files(sample)
        self.where = _where(self._pool, sample)

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
            manager: Any = pool.sentinel_manager
            # Somebody's own way to find the master, as behind a NAT, is left alone.
            if type(manager).discover_master is Sentinel.discover_master:
                manager = _Sentinels(manager, self._settings, self._timeout)
            return SentinelConnectionPool(  # type: ignore[no-untyped-call]
                pool.service_name, manager, connection_class=pool.connection_class, **settings
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

    async def open(self, key: str, patience: float, target: Address | None = None) -> Channel:
        """A connection to the server that holds this key.

        Args:
            key: the key of a stream.
            patience: seconds that the server may be silent while a reply is due.
            target: where the key already is, while its slot is on the way to that node of the cluster.

        Raises:
            AccessRefused: the credentials are refused.
            ConfigError: the server or its certificate can never be the right one.
            Unreachable: nobody answers, at the moment.
        """
        async with self._attempt():
            node = await self._located(key, target)
            return await node.channel.made(node.connection(), patience)

    async def locate(self, key: str) -> Node:
        """The server that holds this key. Raises what `open` does."""
        async with self._attempt():
            return await self._located(key)

    async def connect(self, node: Node, patience: float) -> Channel:
        """A connection to a server. Raises what `open` does."""
        async with self._attempt():
            return await node.channel.made(node.connection(), patience)

    async def release(self, channel: Channel) -> None:
        """End a connection."""
        await channel.aclose()

    @asynccontextmanager
    async def _attempt(self) -> AsyncIterator[None]:
        """Bounded in time, and with errors of our own."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except (TimeoutError, exceptions.TimeoutError):
            raise Unreachable(f"{self.where} did not answer in {self._timeout:g} s") from None
        except (Unreachable, ConfigError):
            raise
        except Exception as error:
            raise _why_not_connected(self.where, error) from None

    @property
    def sharded(self) -> bool:
        """Whether two keys may be on two servers, and are at least in two slots."""
        return self._cluster is not None

    def together(self, *keys: str) -> bool:
        """Whether one script may touch all of these keys: they are in one slot, or there are none."""
        return self._cluster is None or len({self._cluster.keyslot(key) for key in keys}) == 1

    def rediscover(self) -> None:
        """What is known of the cluster is out of date. (Sentinel is asked at every connection.)"""
        self._stale = True

    async def _located(self, key: str, target: Address | None = None) -> Node:
        cluster = self._cluster
        if cluster is None:
            return Node(self.where, self._pool.make_connection, Channel)
        await cluster.initialize()
        async with self._discovery:
            if self._stale:
                self._stale = False
                try:
                    await cluster.nodes_manager.initialize()
                except BaseException:  # a cancellation too, as when the attempt's time is over
                    self._stale = True
                    raise
        node = cluster.get_node_from_key(key)
        assert node is not None  # only for replicas, of which there may be none
        name, settings = node.name, self._settings(node.connection_kwargs)
        if target is not None:
            host, port = cluster.nodes_manager.remap_host_port(*target)
            name, settings = f"{host}:{port}", settings | {"host": host, "port": port}
        how = Channel if target is None else AskingChannel
        return Node(name, partial(node.connection_class, **settings), how)


class Node(NamedTuple):
    """A server, as far as a connection to it goes.

    Attributes:
        name: of the servers that one link leads to at the same time, each has another.
        connection: makes one of redis-py.
        channel: takes it over.
    """

    name: str
    connection: Callable[[], Any]
    channel: type[Channel]


class _Sentinels:
    """The Sentinels of somebody's client, asked all at once, once each, over connections of our own.

    redis-py asks them in turn, each as often and as long as the client's settings say: one that is dead, or only hangs,
    would take up all the time that an attempt has, and would again at the next one.

    Args:
        manager: the Sentinel of redis-py, which knows what a healthy master is.
        settings: makes those of a connection of ours out of somebody's.
        timeout: seconds that one may be silent.
    """

    def __init__(self, manager: Any, settings: Callable[[Any], dict[str, Any]], timeout: float) -> None:
        self._manager = manager
        self._settings = settings
        self._timeout = timeout

    async def discover_master(self, service_name: str) -> Any:
        """The address of the master: the first answer that knows a healthy one.

        Raises:
            MasterNotFoundError: none does.
            ResponseError: one refuses to tell, and no other knows.
        """
        asked = [asyncio.create_task(self._ask(each, service_name)) for each in self._manager.sentinels]
        unknown: exceptions.RedisError = MasterNotFoundError(f"no Sentinel knows {service_name!r}")
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    if (address := await answer) is not None:
                        return address
                except exceptions.ResponseError as error:
                    unknown = error
                except (exceptions.RedisError, Disconnected, OSError, TimeoutError):
                    pass  # another one will do
            raise unknown
        finally:
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)

    async def _ask(self, sentinel: Redis, service_name: str) -> Any:
        pool: Any = sentinel.connection_pool
        connection: Any = pool.connection_class(**self._settings(pool.connection_kwargs))
        channel = await Channel.made(connection, self._timeout)
        try:
            [reply] = await channel.exchange(command("SENTINEL", "MASTERS"), 1)
        finally:
            await channel.aclose()
        if isinstance(reply, Refusal):
            raise (exceptions.NoPermissionError if reply.access else exceptions.ResponseError)(str(reply))
        return self._address(reply, service_name)

    def _address(self, masters: Any, service_name: str) -> Any:
        for fields in masters:
            texts = [field.decode() for field in fields]
            about = dict(zip(texts[::2], texts[1::2], strict=True))
            if about["name"] != service_name:
                continue
            flags = about["flags"].split(",")
            state: dict[str, Any] = {
                f"is_{flag.replace('_', '')}": flag in flags for flag in ("master", "s_down", "o_down")
            }
            state["num-other-sentinels"] = int(about["num-other-sentinels"])
            if self._manager.check_master_state(state, service_name):
                return getattr(self._manager, "_force_master_ip", None) or about["ip"], int(about["port"])
        return None


def _parsed(url: str) -> Any:
    # Nothing of the URL goes into a message: where it is malformed, any part of it may be the password.
    if not url.startswith(_BEGINNINGS):
        raise ConfigError(f"redis: the URL must begin with {', '.join(_BEGINNINGS)}")
    try:
        parts = urlsplit(url)
        path = parts.path.strip("/")
        # redis-py would take another port, database or path than the one that was meant.
        if parts.port != 0 and (path if parts.scheme == "unix" else path.isdecimal() or not path):
            return parse_url(url)
    except ValueError:
        pass
    raise ConfigError(
        "redis: the URL cannot be parsed; it is redis://[user:password@]host[:port][/database] or "
        "unix://[user:password@]/path, with special characters in a password percent-encoded"
    )


def _check_files(connection: Any) -> None:
    """Raise ConfigError if certificates or keys are not there, or are none."""
    context = getattr(connection, "ssl_context", None)
    if context is not None:
        try:
            context.get()
        except Exception as error:
            raise ConfigError(
                f"redis: the files of certificates and keys cannot be used: {type(error).__name__}"
            ) from None


def _where(pool: Any, connection: Any) -> str:
    if isinstance(pool, SentinelConnectionPool):
        return f"the master {pool.service_name!r} of Sentinel"
    path = getattr(connection, "path", None)
    tls = " with TLS" if hasattr(connection, "ssl_context") else ""
    return f"redis at {path or f'{connection.host}:{connection.port}'}{tls}, database {connection.db}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came from: redis-py wraps some, depending on its version and on the transport."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _told(error: Exception) -> str:
    """What an error says, without what the server repeats of the command that it refuses."""
    return str(Refusal(str(error)))


def _why_not_connected(where: str, error: Exception) -> Exception:
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                reason = cause.verify_message.rstrip(".")
                return ConfigError(
                    f"{where}: its certificate is not trusted ({reason}); where a CA of your own signed it, set "
                    "ssl_ca_certs"
                )
            case ssl.SSLError() if cause.reason in _NOT_TLS:
                return ConfigError(f"{where}: what answers there does not speak TLS")
            case socket.gaierror() if cause.errno in _UNKNOWN_HOST:
                return ConfigError(f"{where}: the host name is not known")
            case UnicodeError():
                return ConfigError(f"{where}: that can be no host name")
            case exceptions.ResponseError() if "DB index" in str(cause):
                return ConfigError(f"{where}: the server has no such database")
            case exceptions.ResponseError() if "unknown command" in str(cause):
                # As the rest of the reply holds the arguments, and with AUTH the password.
                return ConfigError(f"{where}: connecting needs what the server does not know: {_told(cause)}")
            case MasterNotFoundError():
                return Unreachable(f"{where} is not known: no Sentinel that answers has a healthy one")
        if isinstance(cause, _CREDENTIALS_REFUSED):
            reason = f"the server refuses the credentials ({_told(cause)}); check the user and the password"
            return AccessRefused(where, reason)
    if isinstance(error, exceptions.RedisError | exceptions.RedisClusterException | OSError):
        return Unreachable(f"{where} cannot be reached: {_told(error)}")
    # Of the user's own, such as a provider of credentials; what it says is not for the log.
    return Unreachable(f"{where} cannot be reached: {type(error).__name__} was raised")
