"""Only type-checked: what the users of ``mainflux_events.testing`` see."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from mainflux_events.testing import RedisServer, find_redis_server, redis_server


async def use() -> None:
    assert_type(find_redis_server(Path("redis-server")), str)
    async with redis_server(
        "redis-server",
        tcp=True,
        port=1,
        aof=True,
        password="p",
        config={"maxmemory": "1mb", "databases": 1, "user": ["default off", "u on"]},
        directory=Path("data"),
    ) as server:
        assert_type(server, RedisServer)
        assert_type(server.url, str)
        assert_type(server.version, tuple[int, ...])
        assert_type(server.port, int | None)
        assert_type(server.socket, Path | None)
        assert_type(server.pid, int)
        assert_type(server.log(), str)
        await server.command("SET", b"k", 1, timeout=1)
        await server.kill()
        await server.restart(loaded=False)
        server.hang()
        server.resume()
        await server.stop()
