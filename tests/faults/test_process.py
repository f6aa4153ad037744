"""What was started in one process or event loop is used in another."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults.kit import stored
from histories import STREAM, Recorder, numbered
from mainflux_events import Publisher, PublisherClosed, Subscriber
from mainflux_events.testing import RedisServer

FORKED = Path(__file__).parent / "forked.py"


async def test_fork_after_start(server: RedisServer) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "ignore", str(FORKED), server.url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert process.returncode == 0, process.stderr
    told = dict(line.split("\t") for line in process.stdout.splitlines())
    assert told.pop("received") == numbered(0).id
    of_subscriber = {told.pop(name) for name in ("anext", "lag", "Subscriber.aclose")}
    assert of_subscriber == {
        "RuntimeError: the subscriber 'audit' belongs to another event loop; make one for each"
    }
    [of_publisher] = set(told.values())
    assert of_publisher == (
        "RuntimeError: the publisher of 'mainflux.things' was started in another process: "
        "after a fork, make another one"
    )
    assert list((await stored(server)).values()) == [numbered(0).id, numbered(2).id]


def test_event_loop_closed_reports_what_was_buffered(server: RedisServer) -> None:
    recorder = Recorder()

    async def forgetful() -> Publisher:
        publisher = Publisher(server.url, STREAM, hooks=recorder)
        await publisher.start()
        publisher.publish_nowait(numbered(1))
        return publisher

    publisher = asyncio.run(forgetful())
    assert recorder.undelivered_ids() == ["0000001"]
    with pytest.raises(PublisherClosed):
        publisher.publish_threadsafe(numbered(2))


def test_event_loop_of_another_run_is_refused_by_the_publisher(server: RedisServer) -> None:
    publisher = Publisher(server.url, STREAM)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(publisher.start())

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await publisher.publish(numbered(1))
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await publisher.aclose()

    asyncio.run(elsewhere())
    loop.run_until_complete(publisher.aclose())
    loop.close()


def test_event_loop_of_another_run_is_refused_by_the_subscriber() -> None:
    subscriber = Subscriber("redis://127.0.0.1:1", STREAM, "audit")  # where nobody listens
    asyncio.run(subscriber.start())

    async def consume() -> None:
        await anext(subscriber)

    with pytest.raises(RuntimeError, match=r"another event loop"):
        asyncio.run(consume())
