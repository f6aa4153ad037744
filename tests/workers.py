"""Worker processes of one consumer group, one of which is killed every now and then, as hard as can be.

PYTHONPATH=src:tests python -m workers --workers 10 --events 100000 --kill-every 1
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from redis.asyncio import Redis

from mainflux_events import Event, GroupSubscriber, Publisher, ThingRemoved
from mainflux_events.testing import redis_server

STREAM, GROUP = "things", "workers"
CLAIM_AFTER = 1.5  # seconds


class Figures(msgspec.Struct):
    """What came of a run.

    Attributes:
        events: how many were published.
        handled: how many of them were handled, at least once.
        again: how often one was handled that had been handled before.
        kills: how many workers were killed.
        killed_had: how many entries were pending for the killed when they died: in hand or read ahead.
        killed_in_hand: how many of these they had handled, or begun to.
        left: how many entries nobody had handled at the end.
        seconds: how long it took.
    """

    events: int
    handled: int = 0
    again: int = 0
    kills: int = 0
    killed_had: int = 0
    killed_in_hand: int = 0
    left: int = 0
    seconds: float = 0.0


async def run(
    events: int,
    workers: int,
    *,
    kill_every: float = 0.0,
    kill_after: int = 0,
    claim_after: float = CLAIM_AFTER,
) -> Figures:
    """Have events handled by workers, one of which is killed, and replaced, every now and then.

    Args:
        events, workers: how many.
        kill_every: one is killed every so many seconds.
        kill_after: or whenever all together have handled so many more events, however long that takes.
        claim_after: as of `GroupSubscriber`.
    """
    figures = Figures(events)
    with TemporaryDirectory() as directory:
        async with redis_server() as server, Redis.from_url(server.url) as client:
            await client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
            team = Team([__file__, "--work", server.url, str(claim_after)], Path(directory))
            began = time.monotonic()
            try:
                for _ in range(workers):
                    team.add()
                async with asyncio.TaskGroup() as group:
                    group.create_task(publish(server.url, events))
                    due = after(team, kill_after) if kill_after else every(kill_every)
                    killing = group.create_task(kill(team, client, due, figures))
                    await all_acknowledged(client, events)
                    killing.cancel()
            finally:
                team.end()
            figures.seconds = time.monotonic() - began
            handled = Counter(team.handled())
            figures.handled = len(handled)
            figures.again = sum(handled.values()) - len(handled)
            figures.left = (await client.xpending(STREAM, GROUP))["pending"]
    return figures


class Team:
    """The worker processes. Each writes down what it handles, before anything else, where no kill can undo it.

    Args:
        command: what each of them runs; behind it come its name, and the file to write to.
        directory: of these files.
    """

    def __init__(self, command: list[str], directory: Path) -> None:
        self._command = [sys.executable, *command]
        self._directory = directory
        self._made = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def add(self) -> None:
        name = f"worker-{self._made}"
        self._made += 1
        notes = self._directory / name
        self._processes[name] = subprocess.Popen([*self._command, name, str(notes)])

    def kill_one(self) -> str | None:
        """Kill the oldest that handles events, by now. Gives its name."""
        for name, process in self._processes.items():
            if self.handled_by(name):
                process.kill()
                process.wait()
                del self._processes[name]
                return name
        return None

    def end(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)
            process.wait()

    def handled_by(self, name: str) -> list[str]:
        notes = self._directory / name
        return notes.read_text().split() if notes.exists() else []

    def names(self) -> list[str]:
        """Of all that ever were."""
        return [f"worker-{number}" for number in range(self._made)]

    def handled(self) -> Iterator[str]:
        for name in self.names():
            yield from self.handled_by(name)


async def publish(url: str, events: int) -> None:
    async with Publisher(url, STREAM, max_len=events * 10, overflow="wait") as publisher:
        for number in range(events):
            await publisher.publish(ThingRemoved(id=f"t{number}"))
        await publisher.flush()


async def every(seconds: float) -> AsyncIterator[None]:
    while True:
        await asyncio.sleep(seconds)
        yield


async def after(team: Team, events: int) -> AsyncIterator[None]:
    due = events
    while True:
        while sum(1 for _ in team.handled()) < due:
            await asyncio.sleep(0.02)
        due += events
        yield


async def kill(team: Team, client: Redis, due: AsyncIterator[None], figures: Figures) -> None:
    async for _ in due:
        name = team.kill_one()
        if name is None:
            continue
        team.add()
        pending = await client.xpending_range(STREAM, GROUP, "-", "+", 100_000, name)
        handled = {entry.encode() for entry in team.handled_by(name)}
        figures.kills += 1
        figures.killed_had += len(pending)
        figures.killed_in_hand += sum(row["message_id"] in handled for row in pending)


async def all_acknowledged(client: Redis, events: int) -> None:
    """Wait until so many events are in the stream, delivered and acknowledged."""
    while True:
        stream, [group] = await client.xinfo_stream(STREAM), await client.xinfo_groups(STREAM)
        at_end = group["last-delivered-id"] == stream["last-generated-id"]
        if stream["length"] == events and at_end and not group["pending"]:
            return
        await asyncio.sleep(0.05)


async def work(url: str, claim_after: float, name: str, notes: str) -> None:
    """What a worker does: its handlers take a millisecond."""
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def handle(event: Event) -> None:
        os.write(file, f"{event.id}\n".encode())
        await asyncio.sleep(0.001)

    await GroupSubscriber(url, STREAM, GROUP, consumer=name, claim_after=claim_after).run(handle)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--kill-every", type=float, default=1.0, help="seconds between two kills")
    chosen = parser.parse_args()
    figures = asyncio.run(run(chosen.events, chosen.workers, kill_every=chosen.kill_every))
    sys.stdout.writelines(f"{name:15} {value}\n" for name, value in msgspec.structs.asdict(figures).items())
    if figures.handled < figures.events or figures.again > figures.killed_in_hand:
        sys.exit("the promise is broken")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        asyncio.run(work(sys.argv[2], float(sys.argv[3]), *sys.argv[4:]))
    else:
        main()
