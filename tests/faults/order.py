"""A server that refuses and accepts in turn, in the middle of batches, while a publisher is at full rate."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path
from typing import Final

from faults.kit import Mode, Tally, stored
from faults.proxy import Direction, proxy_to
from histories import History
from mainflux_events import Backoff, Publisher
from mainflux_events.testing import RedisServer
from support import PATIENCE

FLIPPER: Final = Path(__file__).parent / "flipper.py"

# What makes a server refuse, and accept again.
REFUSALS: Final = {
    "OOM": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    "READONLY": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
}


class Middles:
    """Counts, in the replies, batches in the middle of which the server changed its mind."""

    def __init__(self, code: str) -> None:
        self._accepted_then_refused = b"+QUEUED\r\n-" + code.encode()
        self._refused_then_accepted = b".\r\n+QUEUED"  # each refusal ends with a full stop
        self._tail = b""
        self.accepted_then_refused = 0
        self.refused_then_accepted = 0

    def __call__(self, direction: Direction, data: bytes) -> None:
        if direction == "to client":
            text = self._tail + data
            self.accepted_then_refused += text.count(self._accepted_then_refused)
            self.refused_then_accepted += text.count(self._refused_then_accepted)
            self._tail = text[-len(self._accepted_then_refused) + 1 :]


async def flip(server: RedisServer, code: str, flips: int, mode: Mode) -> Tally:
    """Let a server refuse and accept in turn, so often, for a few milliseconds each."""
    history, middles = History(idempotent=mode == "idempotent"), Middles(code)
    async with proxy_to(server) as proxy:
        proxy.tap = middles
        quick = Backoff(initial=0.001, maximum=0.002)
        async with history.publisher(proxy.url(), backoff=quick, attempt_timeout=5.0) as publisher:
            await _at_full_rate(history, publisher, await _flipper(server, code, flips))
            await publisher.flush(PATIENCE)
    tally = Tally()
    tally.faults[f"flipped to {code}"] = flips
    tally.add(history, publisher, await stored(server))
    tally.counts["refused"] = sum(code in details.reason for details in history.recorder.retries)
    tally.counts["refused in the middle"] = middles.accepted_then_refused + middles.refused_then_accepted
    return tally


async def _flipper(server: RedisServer, code: str, flips: int) -> asyncio.subprocess.Process:
    arguments = (str(server.socket), str(flips), "0.5", "2", *REFUSALS[code])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return await asyncio.create_subprocess_exec(sys.executable, str(FLIPPER), *arguments, env=environment)


async def _at_full_rate(history: History, publisher: Publisher, flipper: asyncio.subprocess.Process) -> None:
    ending = asyncio.create_task(flipper.wait())
    for size in itertools.cycle([50, 100, 200, 2000, 6000]):
        while publisher.stats.buffered:
            await asyncio.sleep(0)
        if ending.done():
            break
        history.publish(publisher, size)
    assert await ending == 0
