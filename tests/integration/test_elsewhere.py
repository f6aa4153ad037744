"""Used in another process, or on another event loop, than it was started in: an error that says so, and no hang."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mainflux_events.testing import RedisServer
from support import no_clients_left

PROGRAM = Path(__file__).parent.parent / "elsewhere.py"

CALLS = 16  # and publish_threadsafe
CLEAR = (
    "RuntimeError: the publisher of 'things' was started in another process: ",
    "RuntimeError: the publisher of 'things' belongs to another event loop or thread",
    "RuntimeError: the publisher of 'things' was used before",
    "RuntimeError: the subscriber 'audit' belongs to another event loop",
    "RuntimeError: the subscriber 'audit' was used before",
    "PublisherClosed: the publisher of 'things' has lost its event loop",
    "PublisherClosed: the publisher of 'things' died: CancelledError",
)


@pytest.mark.parametrize("where", ["forked", "second loop", "closed loop"])
async def test_every_call_is_refused(where: str, server: RedisServer) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(PROGRAM), server.url, where],
        env=environment,
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert process.returncode == 0, process.stderr
    outcomes = process.stdout.splitlines()
    assert len(outcomes) >= CALLS
    assert [outcome for outcome in outcomes if not outcome.startswith(CLEAR)] == []
    await no_clients_left(server)
