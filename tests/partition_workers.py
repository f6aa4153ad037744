"""Worker processes that share partitions, one of which is killed every now and then, as hard as can be.

PYTHONPATH=src:tests python -m partition_workers --workers 10 --events 100000 --kill-every 1
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from redis.asyncio import Redis

from histories import KeyedReadings
from mainflux_events import Event, PartitionedSubscriber, Publisher, ThingUpdated, desk, lease
from mainflux_events.partitions import partition_of, partition_streams
from mainflux_events.testing import redis_server
from mainflux_events.workers import WINDOW
from workers import Team, after, every

STREAM, NAME = "things", "workers"
KEYS = 500


class Figures(msgspec.Struct):
    """What came of a run.

    Attributes:
        events: how many were published.
        handled: how many of them were handled, at least once.
        again: how often one was handled that had been handled before.
        kills: how many workers were killed that had handled something. Each had what comes again after a crash: one
            event in hand at most, with several handlers at a time a window.
        wrong: what must not be: events of a key out of order or missing, a partition handled twice at once.
        seconds: how long it took.
    """

    events: int
    handled: int = 0
    again: int = 0
    kills: int = 0
    wrong: list[str] = []
    seconds: float = 0.0


class Note(msgspec.Struct, frozen=True, order=True):
    """What a worker writes down, by the clock that all processes have in common.

    Attributes:
        at: when, in nanoseconds.
        worker: who.
        key, number: the event.
        begins: whether its handling begins, or ends.
    """

    at: int
    worker: str
    key: str
    number: int
    begins: bool


async def run(
    events: int,
    workers: int,
    partitions: int,
    *,
    kill_every: float = 0.0,
    kill_after: int = 0,
    ttl: float = lease.TTL,
    concurrency: int = 1,
) -> Figures:
    """Have events handled by workers, one of which is killed, and replaced, every now and then.

    Args:
        events, workers, partitions: how many.
        kill_every: one is killed every so many seconds.
        kill_after: or whenever all together have handled so many more events, however long that takes.
        ttl: seconds that a lease lasts.
        concurrency: how many handlers each worker has at a time.
    """
    figures, history = Figures(events), KeyedReadings()
    with TemporaryDirectory() as directory:
        async with redis_server() as server, Redis.from_url(server.url) as client:
            command = [__file__, "--work", server.url, str(partitions), str(ttl), str(concurrency)]
            team = Team(command, Path(directory))
            ends: dict[str, int] = {}
            began = time.monotonic()
            try:
                for _ in range(workers):
                    team.add()
                async with asyncio.TaskGroup() as group:
                    publishing = group.create_task(publish(server.url, events, partitions, history))
                    due = after(team, 2 * kill_after) if kill_after else every(kill_every)
                    killing = group.create_task(kill(team, due, ends))
                    await publishing
                    await all_stored(client, partitions)
                    killing.cancel()
            finally:
                team.end()
            figures.seconds = time.monotonic() - began
            notes = sorted(parsed(team))
    history.handled = [(note.key, note.number) for note in notes if note.begins]
    figures.handled = len(set(history.handled))
    figures.again = history.again
    figures.kills = len(ends)
    figures.wrong = [*history.violations(), *overlaps(notes, ends, partitions)]
    return figures


def in_hand(concurrency: int) -> int:
    """How many events of a worker that is killed may come again."""
    return 1 if concurrency == 1 else WINDOW * concurrency


async def publish(url: str, events: int, partitions: int, history: KeyedReadings) -> None:
    chosen = random.Random(events)
    async with Publisher(url, STREAM, partitions=partitions, max_len=None, overflow="wait") as publisher:
        for _ in range(events):
            await publisher.publish(history.next(f"key{chosen.randrange(KEYS)}"))
        await publisher.flush()


async def kill(team: Team, due: AsyncIterator[None], ends: dict[str, int]) -> None:
    """Kill one whenever that is due, and note when it had ended."""
    async for _ in due:
        if (name := team.kill_one()) is not None:
            ends[name] = time.monotonic_ns()
            team.add()


async def all_stored(client: Redis, partitions: int) -> None:
    """Wait until each cursor is at the end of its partition."""
    for stream in partition_streams(STREAM, partitions):
        last = (await client.xinfo_stream(stream))["last-generated-id"]
        while await client.get(f"mainflux:cursor:{NAME}:{stream}") != last:
            await asyncio.sleep(0.05)


def parsed(team: Team) -> Iterator[Note]:
    for worker in team.names():
        for line in team.handled_by(worker):
            begins, at, key, number = line.split(":")
            yield Note(int(at), worker, key, int(number), begins == "B")


def overlaps(notes: list[Note], ends: dict[str, int], partitions: int) -> list[str]:
    """Where two workers were at work on one partition at the same time."""
    spans: dict[int, list[tuple[int, int, str]]] = {}
    open_: dict[tuple[str, str], Note] = {}
    for note in notes:
        if note.begins:
            open_[note.worker, note.key] = note
        elif (begun := open_.pop((note.worker, note.key), None)) is not None:
            spans.setdefault(partition_of(note.key, partitions), []).append((begun.at, note.at, note.worker))
    for (worker, key), note in open_.items():
        spans.setdefault(partition_of(key, partitions), []).append((note.at, ends[worker], worker))
    return [
        f"partition {partition}: {other} was at work until {end}, and {worker} from {begin} on"
        for partition, found in spans.items()
        for begin, worker, other, end in _overlapping(found)
    ]


def _overlapping(spans: list[tuple[int, int, str]]) -> Iterator[tuple[int, str, str, int]]:
    """Where a span begins before one of another worker has ended: when, whose, and the other with its end."""
    until: dict[str, int] = {}
    for begin, end, worker in sorted(spans):
        for other, over in until.items():
            if other != worker and over > begin:
                yield begin, worker, other, over
        until[worker] = max(end, until.get(worker, 0))


async def work(url: str, partitions: int, ttl: float, concurrency: int, notes: str) -> None:
    """What a worker does: its handlers take a millisecond."""
    lease.TTL = ttl  # type: ignore[misc]
    desk.RENEW_EVERY, desk.ASK_EVERY = ttl / 5, ttl / 20  # type: ignore[misc]
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def handle(event: Event) -> None:
        assert isinstance(event.action, ThingUpdated)
        what = f"{event.action.id}:{event.action.profile_id}\n"
        os.write(file, f"B:{time.monotonic_ns()}:{what}".encode())
        await asyncio.sleep(0.001)
        os.write(file, f"E:{time.monotonic_ns()}:{what}".encode())

    subscriber = PartitionedSubscriber(url, STREAM, NAME, partitions=partitions, start="earliest")
    await subscriber.run(handle, concurrency=concurrency)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--partitions", type=int, default=32)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--kill-every", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--concurrency", type=int, default=1, help="handlers at a time in each worker")
    chosen = parser.parse_args()
    figures = asyncio.run(
        run(
            chosen.events,
            chosen.workers,
            chosen.partitions,
            kill_every=chosen.kill_every,
            concurrency=chosen.concurrency,
        )
    )
    most = figures.kills * in_hand(chosen.concurrency)
    sys.stdout.writelines(f"{name:15} {value}\n" for name, value in msgspec.structs.asdict(figures).items())
    if figures.handled < figures.events or figures.again > most or figures.wrong:
        sys.exit("the promise is broken")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        url, partitions, ttl, concurrency, _, notes = sys.argv[2:]
        asyncio.run(work(url, int(partitions), float(ttl), int(concurrency), notes))
    else:
        main()
