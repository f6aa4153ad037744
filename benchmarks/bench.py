"""Where things run: a server pinned to one core, every measurement in a process pinned to another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import msgspec

from benchmarks.events import MAX_LEN, events, fields
from benchmarks.measure import Taken
from mainflux_events.testing import RedisServer, redis_server

T = TypeVar("T")

STREAM = "benchmark"
PATIENCE = 600  # seconds, for one measurement


def _cores() -> tuple[set[int], set[int]]:
    """The core of the server and that of the clients; empty where nothing can be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    cores = sorted(os.sched_getaffinity(0))
    return {cores[-1]}, {cores[-2 % len(cores)]}


SERVER_CORES, CLIENT_CORES = _cores()


@contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """What is started in this block runs on these cores."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def benching() -> AsyncIterator[Bench]:
    """A server for one run of the benchmarks. This process, which waits while others work, is on its core too."""
    with _on(SERVER_CORES):
        async with redis_server(tcp=True) as server:
            yield Bench(server)


class Bench:
    """A server, and the processes that use it."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.url = server.url

    async def clear(self) -> None:
        """Remove all data."""
        await self.server.command("FLUSHALL", "SYNC", timeout=60)

    async def clear_positions(self, stream: str) -> None:
        """Remove the stored cursors and a stream's groups, and leave the streams."""
        for key in await self.server.command("KEYS", "mainflux:cursor:*"):
            await self.server.command("DEL", key)
        for group in await self.server.command("XINFO", "GROUPS", stream):
            await self.server.command("XGROUP", "DESTROY", stream, group[1])

    async def server_cpu(self) -> float:
        """Seconds of CPU that the server has used so far."""
        info = (await self.server.command("INFO", "cpu")).decode()
        return sum(float(found) for found in re.findall(r"used_cpu_(?:sys|user):([\d.]+)", info))

    def run(self, kind: type[T], module: str, function: str, **keywords: Any) -> T:
        """Call a function in a process of its own, on the clients' core."""
        command = [sys.executable, "-m", "benchmarks.worker", module, function, json.dumps(keywords)]
        with _on(CLIENT_CORES):
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PATIENCE)
        return msgspec.json.decode(done.stdout, type=kind)

    def import_times(self, modules: Sequence[str], rounds: int) -> list[list[float]]:
        """Seconds that importing each takes in a new process, compiled before; by rounds."""
        timed = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with TemporaryDirectory() as compiled, _on(CLIENT_CORES):
            environment["PYTHONPYCACHEPREFIX"] = compiled
            times = [
                [
                    float(
                        subprocess.check_output([sys.executable, "-c", timed.format(module)], env=environment)
                    )
                    for module in modules
                ]
                for _ in range(rounds + 1)
            ]
        return times[1:]

    def redis_benchmark(self, count: int) -> Taken | None:
        """The same XADD by the server's own tool, 500 at a time on one connection; none where it is missing."""
        program = shutil.which("redis-benchmark")
        if program is None:
            return None
        [event] = events(1)
        entry = [part for pair in fields(event).items() for part in pair]
        xadd = ["XADD", STREAM, "MAXLEN", "~", str(MAX_LEN), "*", *entry]
        options = ["-p", str(self.server.port), "-P", "500", "-c", "1", "-n", str(count), "--csv"]
        with _on(CLIENT_CORES):
            before = os.times()
            done = subprocess.run([program, *options, *xadd], stdout=subprocess.PIPE, text=True, check=True)
            after = os.times()
        # The last line has the command, whose JSON has quotes and commas, and then seven numbers.
        rate = float(done.stdout.splitlines()[-1].split(",")[-7].strip('"'))
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return Taken(count, count / rate, cpu)

    @contextmanager
    def at_distance(self, milliseconds: float) -> Iterator[str]:
        """The server's URL through a proxy, on the server's core, that adds a round trip of so much."""
        command = [sys.executable, "-m", "benchmarks.proxy", str(self.server.port), str(milliseconds)]
        with (
            _on(SERVER_CORES),
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy,
        ):
            assert proxy.stdout is not None
            yield f"redis://127.0.0.1:{int(proxy.stdout.readline())}/0"
            proxy.communicate("")
