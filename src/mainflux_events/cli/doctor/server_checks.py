"""What the server says of itself, judged. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..output import show_bytes, show_seconds
from .findings import Finding, fail, ok, unknown, warn

# INFO, and CONFIG GET, by their names; None where the user may not ask.
Info = Mapping[str, str] | None
Config = Mapping[str, str] | None

# Seconds that an answer may take, and that clocks may differ.
SLOW: Final = 0.1
CLOCK_WARN: Final = 1.0
CLOCK_FAIL: Final = 60.0

# How much of its memory a server may use.
MUCH: Final = 0.9

_PERSISTENCE: Final = "set `appendonly yes` and `appendfsync everysec`"


def check_connection(where: str, seconds: float) -> Finding:
    """How quickly the server answers."""
    found = f"{where} answers in {seconds * 1000:.1f} ms"
    if seconds <= SLOW:
        return ok("connection", found)
    return warn(
        "connection", found, "look at the network, at SLOWLOG and at what else the server does; publishing is "
        "batched, so its rate suffers less than each `send`",
    )  # fmt: skip


def check_version(info: Info) -> Finding:
    """Which server it is."""
    if info is None:
        return unknown("version", "+info")
    if (valkey := info.get("valkey_version")) is not None:
        return ok("version", f"Valkey {valkey}")
    version = info.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < (6, 2):
        return fail("version", f"Redis {version}", "6.2 is the oldest that works: upgrade")
    if numbers < (7, 0):
        return warn(
            "version",
            f"Redis {version}",
            "from 7.0 on, lag and removed entries can be counted: upgrade when you can",
        )
    return ok("version", f"Redis {version}")


def check_role(info: Info, config: Config) -> Finding:
    """Whether it can be written to, and what follows it."""
    if info is None:
        return unknown("role", "+info")
    if info.get("role") != "master":
        return fail(
            "role",
            "a replica, which takes no events",
            "connect to the master, by a client of Sentinel's for one",
        )
    replicas = int(info.get("connected_slaves", "0"))
    if not replicas:
        return ok("role", "a master without replicas: with its machine, the events are gone")
    found = f"a master with {replicas} replica{'s' if replicas > 1 else ''}"
    least = None if config is None else config.get("min-replicas-to-write")
    if least == "0":
        return warn(
            "role", f"{found}, and it takes events while none of them listens",
            "a failover can lose those: set `min-replicas-to-write 1`, if publishers may wait instead",
        )  # fmt: skip
    return ok("role", found if least is None else f"{found}, min-replicas-to-write {least}")


def check_cluster(info: Info, state: str | None) -> Finding:
    """Whether it is a part of a cluster.

    Args:
        info: see above.
        state: `cluster_state` of CLUSTER INFO; None where that was not asked, or may not be.
    """
    if info is None:
        return unknown("cluster", "+info")
    if info.get("cluster_enabled") != "1":
        return ok("cluster", "not a cluster")
    if state not in (None, "ok"):
        return fail(
            "cluster",
            f"the state of the cluster is {state}",
            "see CLUSTER INFO, CLUSTER NODES and the servers' logs",
        )
    return warn(
        "cluster", "one node of a cluster", "a URL reaches this node alone: give Publisher and Subscriber a "
        "RedisCluster of redis-py; what is said here is of this node",
    )  # fmt: skip


def check_persistence(info: Info, config: Config) -> Finding:
    """What a restart of the server keeps."""
    if info is None:
        return unknown("persistence", "+info")
    for name, what in (
        ("aof_last_write_status", "the last write"),
        ("rdb_last_bgsave_status", "the last snapshot"),
    ):
        if info.get(name, "ok") != "ok":
            return fail(
                "persistence", f"{what} to disk failed", "events may be refused (MISCONF): see the server's log and "
                "the space that is left on its disk",
            )  # fmt: skip
    if info.get("aof_enabled") == "1":
        return _synced(None if config is None else config.get("appendfsync"))
    saves = None if config is None else config.get("save")
    if saves == "":
        return fail(
            "persistence", "nothing is kept on disk: a restart loses all events and cursors", _PERSISTENCE
        )
    return warn(
        "persistence", "snapshots at most: a restart loses what came after the last one, and cursors move back",
        _PERSISTENCE,
    )  # fmt: skip


def _synced(how: str | None) -> Finding:
    found = "an append-only file" if how is None else f"an append-only file, appendfsync {how}"
    if how == "no":
        return warn(
            "persistence", found, "a machine that fails loses half a minute: set `appendfsync everysec`"
        )
    return ok("persistence", found)


def check_memory(info: Info) -> Finding:
    """Whether there is room for more events."""
    if info is None:
        return unknown("memory", "+info")
    used, limit = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    if not limit:
        total = int(info.get("total_system_memory", "0"))
        of = f" of the machine's {show_bytes(total)}" if total else ""
        if total and used > MUCH * total:
            return fail(
                "memory",
                f"{show_bytes(used)}{of}",
                "the system will end the server: trim streams, add memory",
            )
        return warn(
            "memory", f"{show_bytes(used)}{of}, without a limit",
            "set `maxmemory`, with a third to spare: without it the system ends the server when there is none left",
        )  # fmt: skip
    found = f"{show_bytes(used)} of {show_bytes(limit)}"
    if used >= limit:
        return fail(
            "memory",
            found,
            "events are refused (OOM), and publishers wait: trim streams, or raise `maxmemory`",
        )
    if used > MUCH * limit:
        return warn("memory", found, "soon events are refused (OOM): trim streams, or raise `maxmemory`")
    return ok("memory", found)


def check_eviction(info: Info) -> Finding:
    """What the server removes when memory is short."""
    if info is None:
        return unknown("eviction", "+info")
    policy, limit = info.get("maxmemory_policy", ""), int(info.get("maxmemory", "0"))
    if policy == "noeviction":
        return ok("eviction", policy)
    advice = "set `maxmemory-policy noeviction`: then publishers wait, and say so"
    if policy.startswith("volatile-"):
        found = f"{policy}: leases, and the sequences of idempotent publishers, may be removed"
        return warn("eviction", found, advice)
    found = f"{policy}: whole streams and cursors may be removed"
    return (
        fail("eviction", found, advice)
        if limit
        else warn("eviction", f"{found}, once `maxmemory` is set", advice)
    )


def check_clock(ahead: float | None) -> Finding:
    """How far the server's clock is from the one here.

    Args:
        ahead: seconds, as well as can be told; None where that may not be asked.
    """
    if ahead is None:
        return unknown("clock", "+time")
    direction = "ahead of" if ahead > 0 else "behind"
    found = f"the server is {show_seconds(abs(ahead))} {direction} this machine"
    if abs(ahead) <= CLOCK_WARN:
        return ok("clock", found)
    advice = "durations back from now, and lag in seconds, are off by that: let both keep time by NTP"
    return (fail if abs(ahead) > CLOCK_FAIL else warn)("clock", found, advice)
