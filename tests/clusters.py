"""Servers that belong together: a cluster of three, a master with a Sentinel, and a server behind TLS."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from faults.proxy import proxy_to
from mainflux_events.testing import RedisServer, find_redis_server, redis_server
from mainflux_events.testing.ports import reserved_port
from support import wait_until

SLOTS = 16384

# Milliseconds. A process that a busy machine lets wait is not down: taken for it, each new master is soon replaced by
# the other replica, which loses what that had not got yet.
PATIENCE_OF_SENTINELS = {"down-after-milliseconds": 2000, "failover-timeout": 5000}


@contextlib.asynccontextmanager
async def cluster(
    nodes: int = 3, *, replicas: bool = False, node_timeout: int = 2000
) -> AsyncIterator[list[RedisServer]]:
    """Masters that share the slots evenly, in their order, and behind them a replica of each, if so.

    Entered when each of them serves. A master that is silent for `node_timeout` ms is replaced by its replica.
    """
    async with contextlib.AsyncExitStack() as stack:
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": node_timeout,
            "repl-diskless-sync-delay": 0,
        }
        servers = [
            await stack.enter_async_context(redis_server(tcp=True, config=settings))
            for _ in range(2 * nodes if replicas else nodes)
        ]
        first, *others = servers
        for number, server in enumerate(servers[:nodes]):
            slots = range(SLOTS * number // nodes, SLOTS * (number + 1) // nodes)
            await server.command("CLUSTER", "ADDSLOTS", *slots)
            # Two nodes of one epoch would settle it between them later, which is a change that nobody asked for.
            await server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in others:
            await first.command("CLUSTER", "MEET", str(server.host), int(server.port or 0))

        async def agreed() -> bool:
            infos = [(await server.command("CLUSTER", "INFO")).decode() for server in servers]
            return all(
                "cluster_state:ok" in info and f"cluster_known_nodes:{len(servers)}" in info for info in infos
            )

        await wait_until(agreed, what="the nodes agree on the cluster")
        for master, replica in zip(servers, servers[nodes:], strict=False):
            await replica.command("CLUSTER", "REPLICATE", await master.command("CLUSTER", "MYID"))
        for master in servers[:nodes] if replicas else ():

            async def followed(master: RedisServer = master) -> bool:
                return b"state=online" in await master.command("INFO", "replication")

            await wait_until(followed, what="a replica has what its master has")
        yield servers


async def kill_when_replicated(master: RedisServer, replica: RedisServer) -> None:
    """Kill a master at a moment when its replica has all that it ever acknowledged."""
    await master.command("CLIENT", "PAUSE", 60_000, "WRITE")
    offset = re.compile(rb"master_repl_offset:(\d+)")

    async def caught_up() -> bool:
        sides = [offset.search(await server.command("INFO", "replication")) for server in (master, replica)]
        return sides[0] is not None and sides[1] is not None and sides[0][1] == sides[1][1]

    await wait_until(caught_up, what="the replica has what its master has")
    await master.kill()


async def move_slot(
    source: RedisServer,
    target: RedisServer,
    slot: int,
    others: list[RedisServer],
    *,
    pause: float = 0.0,
    asked: Callable[[], object] = lambda: True,
) -> int:
    """Move a slot with its keys, one after the other, while it is in use. Gives how many keys that were.

    Until that is `asked` who asks for a key that has moved is answered with ASK; afterwards, with MOVED. The pause, in
    seconds, is one after each key.
    """
    ids = [(await server.command("CLUSTER", "MYID")).decode() for server in (source, target)]
    await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    moved = 0
    while keys := await source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
        await source.command("MIGRATE", str(target.host), int(target.port or 0), keys[0], 0, 5000)
        moved += 1
        await asyncio.sleep(pause)
    await wait_until(asked)
    for server in (target, source, *others):
        await server.command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    return moved


async def give_slot(servers: list[RedisServer], slot: int, to: RedisServer) -> None:
    """Give an empty slot to another node."""
    node = (await to.command("CLUSTER", "MYID")).decode()
    for server in (to, *(server for server in servers if server is not to)):
        await server.command("CLUSTER", "SETSLOT", slot, "NODE", node)


@contextlib.asynccontextmanager
async def sentinel(master: RedisServer, directory: Path, name: str = "events") -> AsyncIterator[RedisServer]:
    """A Sentinel that watches a master, which listens on TCP."""
    script = directory / "sentinel"
    script.write_text(f'#!/bin/sh\nexec {find_redis_server()} "$@" --sentinel\n')
    script.chmod(0o755)
    async with redis_server(script, tcp=True) as server:
        await server.command("SENTINEL", "MONITOR", name, str(master.host), int(master.port or 0), 1)
        for option, value in PATIENCE_OF_SENTINELS.items():
            await server.command("SENTINEL", "SET", name, option, value)
        yield server


@contextlib.asynccontextmanager
async def sentinels(
    master: RedisServer, directory: Path, count: int = 3, name: str = "events"
) -> AsyncIterator[list[RedisServer]]:
    """Sentinels that watch a master together, a majority of which decides. Entered when they know of each other."""
    script = directory / "sentinels"
    script.write_text(f'#!/bin/sh\nexec {find_redis_server()} "$@" --sentinel\n')
    script.chmod(0o755)
    async with contextlib.AsyncExitStack() as stack:
        members = [(stack.enter_context(reserved_port()), secrets.token_hex(20)) for _ in range(count)]
        watchers = []
        for port, id in members:
            # What they would tell each other within some seconds.
            others = [f"known-sentinel {name} 127.0.0.1 {other} {its}" for other, its in members if its != id]
            watch = f"monitor {name} {master.host} {master.port} {count // 2 + 1}"
            patience = [f"{option} {name} {value}" for option, value in PATIENCE_OF_SENTINELS.items()]
            config = {"sentinel": [f"myid {id}", watch, *patience, *others]}
            watchers.append(await stack.enter_async_context(redis_server(script, port=port, config=config)))
        yield watchers


@contextlib.asynccontextmanager
async def tls_in_front_of(server: RedisServer, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Terminate TLS on a port of 127.0.0.1, and pass on what is inside. (Not every redis-server can do TLS.)"""
    async with proxy_to(server, tls=context) as proxy:
        yield proxy.port
