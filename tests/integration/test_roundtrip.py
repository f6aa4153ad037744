"""What the Go side published, read, published again and read again: three thousand events of all ten operations."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

from redis.asyncio import Redis

from mainflux_events import Commit, Event, Publisher, Subscriber
from mainflux_events.actions import PLATFORM_ACTIONS
from mainflux_events.testing import RedisServer
from support import REFERENCE


@cache
def capture() -> list[tuple[str, dict[str, str]]]:
    """The recorded stream: the ID and the fields of each entry, in order."""
    lines = (REFERENCE / "capture.jsonl").read_text(encoding="utf-8").splitlines()
    return [(id, fields) for id, fields in map(json.loads, lines)]


async def load(client: Redis, stream: str) -> None:
    pipeline = client.pipeline(transaction=False)
    for id, fields in capture():
        pipeline.xadd(stream, fields, id=id)  # type: ignore[arg-type]
    await pipeline.execute()


async def consume(server: RedisServer, stream: str, count: int) -> list[Event]:
    """The first events of a stream."""
    events: list[Event] = []
    async with Subscriber(server.url, stream, "audit", start="earliest", commit=Commit.every()) as subscriber:
        async for event in subscriber:
            events.append(event)
            if len(events) == count:
                break
    return events


async def test_recorded_events_come_back_equal_and_in_order(server: RedisServer, client: Redis) -> None:
    await load(client, "recorded")
    events = await consume(server, "recorded", 3000)
    assert [event.id for event in events] == [id for id, _ in capture()]
    recorded = Counter(fields["operation"] for _, fields in capture())
    assert Counter(event.action.operation for event in events) == recorded
    assert set(recorded) == {action.operation for action in PLATFORM_ACTIONS}

    async with Publisher(server.url, "published", max_len=None) as publisher:
        for event in events:
            await publisher.publish(event)
        await publisher.flush(timeout=10)
        assert publisher.stats.acknowledged == 3000

    again = await consume(server, "published", 3000)
    assert again == events
    # Not only because the comparison says so: times to the microsecond, and metadata.
    assert [event.occurred_at for event in again] == [event.occurred_at for event in events]
    assert all(event.occurred_at for event in again)
    assert [getattr(event.action, "metadata", None) for event in again] == [
        getattr(event.action, "metadata", None) for event in events
    ]


async def test_what_is_read_says_what_was_recorded(server: RedisServer, client: Redis) -> None:
    await load(client, "recorded")
    for event, (id, fields) in zip(await consume(server, "recorded", 3000), capture(), strict=True):
        assert event.org_id == fields["evt_org_id"], id
        assert event.group_id == fields["evt_group_id"], id
        assert event.identity.id == fields.get("jwt_identity_user_id", ""), id
        assert event.identity.email == fields.get("jwt_identity_user_email", ""), id
        assert event.action.id == fields["id"], id  # type: ignore[attr-defined]
        assert event.occurred_at is not None, id
        seconds, _, fraction = fields["occurred_at"].removesuffix("Z").partition(".")
        micros = int(fraction.ljust(6, "0")[:6]) if fraction else 0
        assert event.occurred_at.strftime("%Y-%m-%dT%H:%M:%S") == seconds, id
        assert event.occurred_at.microsecond == micros, id
        if "metadata" in fields:
            assert event.action.metadata == json.loads(fields["metadata"]), id  # type: ignore[attr-defined]


async def test_forwarded_every_fields_bytes_are_equal(server: RedisServer, client: Redis) -> None:
    await load(client, "recorded")
    async with Publisher(server.url, "mirror", max_len=None) as publisher:
        for event in await consume(server, "recorded", 3000):
            await publisher.forward(event)
        await publisher.flush(timeout=10)
    mirrored = [fields for _, fields in await client.xrange("mirror")]
    assert mirrored == [fields for _, fields in await client.xrange("recorded")]
    assert mirrored == [
        {name.encode(): value.encode() for name, value in fields.items()} for _, fields in capture()
    ]
