"""What the tests of the subscriber share."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from mainflux_events import Event, Hooks, Subscriber
from mainflux_events.testing import RedisServer
from support import wait_until

STREAM = "things"


class Recorder(Hooks):
    """Notes everything that is reported: the hook's name and its details."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def of(self, hook: str) -> list[Any]:
        """The details that one hook was given, in order."""
        return [details for name, details in self.seen if name == hook]


def _note(name: str) -> Any:
    def note(self: Recorder, details: Any) -> None:
        self.seen.append((name, details))

    return note


for _name in [name for name in vars(Hooks) if not name.startswith("_")]:
    setattr(Recorder, _name, _note(_name))


async def append(client: Redis, *ids: str, stream: str = STREAM) -> list[str]:
    """Append a removed thing of each ID; gives the IDs of the entries."""
    pipeline = client.pipeline(transaction=False)
    for id in ids:
        pipeline.xadd(stream, {"operation": "thing.remove", "id": id})
    return [entry.decode() for entry in await pipeline.execute()]


async def stored(client: Redis, name: str, stream: str = STREAM) -> str | None:
    """The cursor of a subscriber, as it is stored."""
    cursor = await client.get(f"mainflux:cursor:{name}:{stream}")
    return None if cursor is None else cursor.decode()


def thing(event: Event) -> str:
    """The ID of the removed thing."""
    return event.action.id  # type: ignore[attr-defined,no-any-return]


async def take(subscriber: Subscriber, count: int) -> list[str]:
    """The things of the next events. The loop is left at the last one, which is so not committed."""
    taken: list[str] = []
    async for event in subscriber:
        taken.append(thing(event))
        if len(taken) == count:
            break
    return taken


async def calls(server: RedisServer, command: str) -> int:
    """How often a command was run, whatever its subcommand."""
    stats = (await server.command("INFO", "commandstats")).decode()
    lines = [line for line in stats.splitlines() if line.startswith(f"cmdstat_{command}")]
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)


async def read_again(server: RedisServer) -> None:
    """Wait until a read that begins after this call was answered, which shows in the server's count of reads."""

    async def twice_more() -> bool:
        return await calls(server, "xread:") >= before + 2

    before = await calls(server, "xread:")
    await wait_until(twice_more)
