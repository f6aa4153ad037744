"""Faults to inject: each begins on entering its context, and is over when that is left."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from typing import Final

from redis.exceptions import ResponseError

from faults.proxy import Connection, Proxy
from histories import STREAM
from mainflux_events.testing import RedisServer

# Whom the clients connect as: of the configuration, so that they survive a restart. No log may hold the secret.
PUBLISHING: Final = "publishing"
SUBSCRIBING: Final = "subscribing"
SECRET: Final = "hush-hush"
USERS: Final = {"user": [f"{name} on >{SECRET} ~* &* +@all" for name in (PUBLISHING, SUBSCRIBING)]}


@dataclass(frozen=True)
class Scene:
    """Where faults happen.

    Attributes:
        server: it, with `USERS` in its configuration.
        proxies: what the clients reach it through.
        random: what decides.
    """

    server: RedisServer
    proxies: list[Proxy]
    random: Random

    def proxy(self) -> Proxy:
        return self.random.choice(self.proxies)

    def connection(self) -> Connection | None:
        """One that stands, if there is any."""
        standing = [connection for proxy in self.proxies for connection in proxy.connections]
        return self.random.choice(standing) if standing else None


Fault = Callable[[Scene], AbstractAsyncContextManager[None]]

# Those of the server, of which there is one at a time, and those of the network, which happen meanwhile.
OF_SERVER: Final[dict[str, Fault]] = {}
OF_NETWORK: Final[dict[str, Fault]] = {}


def _among(faults: dict[str, Fault]) -> Callable[[Callable[[Scene], AsyncIterator[None]]], Fault]:
    def add(steps: Callable[[Scene], AsyncIterator[None]]) -> Fault:
        name = steps.__name__.replace("_", " ")
        faults[name] = contextlib.asynccontextmanager(steps)
        return faults[name]

    return add


of_server = _among(OF_SERVER)
of_network = _among(OF_NETWORK)


# --- the server ---


@of_server
async def killed(scene: Scene) -> AsyncIterator[None]:
    await scene.server.kill()
    yield
    await scene.server.restart()


@of_server
async def hung(scene: Scene) -> AsyncIterator[None]:
    scene.server.hang()
    yield
    scene.server.resume()


@of_server
async def out_of_memory(scene: Scene) -> AsyncIterator[None]:
    await scene.server.command("CONFIG", "SET", "maxmemory", 1)
    yield
    await scene.server.command("CONFIG", "SET", "maxmemory", 0)


@of_server
async def read_only(scene: Scene) -> AsyncIterator[None]:
    await scene.server.command("REPLICAOF", "127.0.0.1", 1)
    yield
    await scene.server.command("REPLICAOF", "NO", "ONE")


@of_server
async def without_replicas(scene: Scene) -> AsyncIterator[None]:
    await scene.server.command("CONFIG", "SET", "min-replicas-to-write", 1)
    yield
    await scene.server.command("CONFIG", "SET", "min-replicas-to-write", 0)


@of_server
async def writes_paused(scene: Scene) -> AsyncIterator[None]:
    await scene.server.command("CLIENT", "PAUSE", 10_000, "WRITE")
    yield
    await scene.server.command("CLIENT", "UNPAUSE")


@of_server
async def clients_killed(scene: Scene) -> AsyncIterator[None]:
    for _ in range(scene.random.randint(1, 5)):
        await scene.server.command("CLIENT", "KILL", "TYPE", "normal")
    yield


@of_server
async def locked_out(scene: Scene) -> AsyncIterator[None]:
    user = scene.random.choice([PUBLISHING, SUBSCRIBING])
    await scene.server.command("ACL", "SETUSER", user, "off")
    await scene.server.command("CLIENT", "KILL", "USER", user)
    yield
    await scene.server.command("ACL", "SETUSER", user, "on")


@of_server
async def without_rights(scene: Scene) -> AsyncIterator[None]:
    rights = scene.random.sample(["xadd", "multi", "exec", "xread", "get", "set", "eval", "evalsha"], 3)
    for user in (PUBLISHING, SUBSCRIBING):
        await scene.server.command("ACL", "SETUSER", user, *(f"-{right}" for right in rights))
    yield
    for user in (PUBLISHING, SUBSCRIBING):
        await scene.server.command("ACL", "SETUSER", user, "+@all")


@of_server
async def of_another_type(scene: Scene) -> AsyncIterator[None]:
    swapped = """
    if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end
    redis.call('SET', KEYS[1], 'not a stream')
    """
    back = """
    redis.call('DEL', KEYS[1])
    if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
    """
    await scene.server.command("EVAL", swapped, 2, STREAM, "aside")
    yield
    await scene.server.command("EVAL", back, 2, STREAM, "aside")


@of_server
async def scripts_flushed(scene: Scene) -> AsyncIterator[None]:
    await scene.server.command("SCRIPT", "FLUSH")
    yield


@of_server
async def rewriting_its_data(scene: Scene) -> AsyncIterator[None]:
    with contextlib.suppress(ResponseError):  # it does so already
        await scene.server.command("BGREWRITEAOF")
    yield


# --- the network ---


@of_network
async def reset(scene: Scene) -> AsyncIterator[None]:
    scene.proxy().reset()
    yield


@of_network
async def cut_in_a_request(scene: Scene) -> AsyncIterator[None]:
    after, answered = scene.random.randrange(30_000), scene.random.random() < 0.5
    scene.proxy().cut("to server", after, answered=answered)
    yield


@of_network
async def cut_in_a_reply(scene: Scene) -> AsyncIterator[None]:
    scene.proxy().cut("to client", scene.random.randrange(3_000))
    yield


@of_network
async def slow(scene: Scene) -> AsyncIterator[None]:
    proxy = scene.proxy()
    proxy.delay(scene.random.uniform(0.001, 0.1))
    yield
    proxy.delay(0.0)


@of_network
async def partitioned(scene: Scene) -> AsyncIterator[None]:
    proxy = scene.proxy()
    proxy.hold()
    yield
    proxy.release()


@of_network
async def partitioned_and_delivered_late(scene: Scene) -> AsyncIterator[None]:
    proxy = scene.proxy()
    proxy.hold()
    yield
    proxy.release(late=True)


@of_network
async def one_held_and_delivered_late(scene: Scene) -> AsyncIterator[None]:
    connection = scene.connection()
    if connection is not None:
        connection.hold()
    yield
    if connection is not None:
        connection.release(late=True)


@of_network
async def refused(scene: Scene) -> AsyncIterator[None]:
    proxy = scene.proxy()
    proxy.refuse()
    proxy.reset()
    yield
    await proxy.accept()
