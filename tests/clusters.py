"""Servers that belong together: a cluster of three, a master with a Sentinel, and a server behind TLS."""

from __future__ import annotations

import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from faults.proxy import proxy_to
from mainflux_events.testing import RedisServer, find_redis_server, redis_server
from support import nobody_listens, wait_until

SLOTS = 16384


@contextlib.asynccontextmanager
async def cluster(nodes: int = 3) -> AsyncIterator[list[RedisServer]]:
    """Masters that share the slots evenly, in their order. Entered when each of them serves."""
    async with contextlib.AsyncExitStack() as stack:
        settings = {"cluster-enabled": "yes", "cluster-node-timeout": 2000}
        servers = [
            await stack.enter_async_context(redis_server(tcp=True, config=settings)) for _ in range(nodes)
        ]
        first, *others = servers
        for number, server in enumerate(servers):
            slots = range(SLOTS * number // nodes, SLOTS * (number + 1) // nodes)
            await server.command("CLUSTER", "ADDSLOTS", *slots)
            # Two nodes of one epoch would settle it between them later, which is a change that nobody asked for.
            await server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in others:
            await first.command("CLUSTER", "MEET", str(server.host), int(server.port or 0))

        async def agreed() -> bool:
            infos = [(await server.command("CLUSTER", "INFO")).decode() for server in servers]
            return all(
                "cluster_state:ok" in info and f"cluster_known_nodes:{nodes}" in info for info in infos
            )

        await wait_until(agreed, 15.0, what="the nodes agree on the cluster")
        yield servers


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
        for option, value in (("down-after-milliseconds", 200), ("failover-timeout", 2000)):
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
    members = [(nobody_listens(), secrets.token_hex(20)) for _ in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        watchers = []
        for port, id in members:
            # What they would tell each other within some seconds.
            others = [f"known-sentinel {name} 127.0.0.1 {other} {its}" for other, its in members if its != id]
            watch = f"monitor {name} {master.host} {master.port} {count // 2 + 1}"
            patience = [f"down-after-milliseconds {name} 200", f"failover-timeout {name} 2000"]
            config = {"sentinel": [f"myid {id}", watch, *patience, *others]}
            watchers.append(await stack.enter_async_context(redis_server(script, port=port, config=config)))
        yield watchers


@contextlib.asynccontextmanager
async def tls_in_front_of(server: RedisServer, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Terminate TLS on a port of 127.0.0.1, and pass on what is inside. (Not every redis-server can do TLS.)"""
    async with proxy_to(server, tls=context) as proxy:
        yield proxy.port
