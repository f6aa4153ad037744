"""What is in an entry: strings that could break a protocol, and what is no event at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from consuming import Recorder, thing
from faults.kit import append, cursor, subscriber
from histories import STREAM, History
from mainflux_events import (
    Action,
    EncodeError,
    Event,
    Identity,
    ProfileUpdated,
    ThingCreated,
    UnknownAction,
    read_dead_letters,
)
from mainflux_events.testing import RedisServer

DEEP = "[" * 100_000
LONG = "9" * 5000


class Counted(Action, tag="test.faults.counted"):
    count: int = 0


# --- malformed ---


@dataclass(frozen=True)
class Malformed:
    """An entry, and what becomes of it: the metadata that it decodes to, or why it is passed over."""

    fields: dict[bytes | str, bytes | str]
    becomes: object


OF_THE_REFERENCE = {"operation": "thing.create", "id": "t", "group_id": "g", "profile_id": "p"}
MALFORMED = {
    "metadata that is no JSON": Malformed(OF_THE_REFERENCE | {"metadata": "{"}, None),
    "metadata that is no object": Malformed(OF_THE_REFERENCE | {"metadata": "[1]"}, None),
    "metadata that is not UTF-8": Malformed(
        OF_THE_REFERENCE | {b"metadata": b'{"a":"\xff"}'}, {"a": "\ufffd"}
    ),
    "metadata of great depth": Malformed(OF_THE_REFERENCE | {"metadata": '{"a":' + DEEP}, None),
    "metadata with a long number": Malformed(OF_THE_REFERENCE | {"metadata": f'{{"a":{LONG}}}'}, None),
    "an unknown operation": Malformed({"operation": "nobody.knows"}, "no class is known"),
    "no operation": Malformed({"id": "t"}, "no class is known"),
    "an operation that is not UTF-8": Malformed({"operation": b"\xff"}, "no class is known"),
    "a field that is no number": Malformed(
        {"operation": "test.faults.counted", "count": "x"}, "field 'count'"
    ),
    "a field of great depth": Malformed({"operation": "test.faults.counted", "count": DEEP}, "field 'count'"),
    "a number of 5,000 digits": Malformed(
        {"operation": "test.faults.counted", "count": LONG}, "field 'count'"
    ),
}


def octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_entry(malformed: Malformed, server: RedisServer, client: Redis) -> None:
    seen = Recorder()
    fields: Any = malformed.fields
    id = (await client.xadd(STREAM, fields)).decode()
    [last] = await append(client, "behind it")
    async with subscriber(server, seen) as reader:
        event = await anext(reader)
        if isinstance(malformed.becomes, str):
            [skipped] = seen.of("skipped")
            assert malformed.becomes in skipped.reason
            assert skipped.id == id
            wanted = [
                tuple(each.encode() if isinstance(each, str) else each for each in pair)
                for pair in fields.items()
            ]
            assert list(skipped.fields) == wanted
        else:
            assert isinstance(event.action, ThingCreated)
            assert (event.id, event.action.metadata) == (id, malformed.becomes)
            event = await anext(reader)
        assert thing(event) == "behind it"
        await reader.commit(event)
    assert await cursor(client) == last


UNDECODABLE = {
    name: each.fields for name, each in MALFORMED.items() if "test.faults.counted" in each.fields.values()
}


@pytest.mark.parametrize("fields", UNDECODABLE.values(), ids=UNDECODABLE)
async def test_malformed_entry_is_dead_lettered_with_its_bytes(
    fields: Any, server: RedisServer, client: Redis
) -> None:
    id = (await client.xadd(STREAM, fields)).decode()
    [last] = await append(client, "behind it")
    async with subscriber(server, dead_letter="dead") as reader:
        event = await anext(reader)
        assert thing(event) == "behind it"
        await reader.commit(event)
        assert reader.stats.dead_lettered == 1
    [letter] = [letter async for letter in read_dead_letters(server.url, "dead")]
    assert letter.source_id == id
    assert list(letter.raw) == [(octets(name), octets(value)) for name, value in fields.items()]
    assert await cursor(client) == last


# --- strings ---


TEXTS = {
    "line breaks": "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "NUL": "a\x00b",
    "the byte 255": "\udcff",
    "a lone surrogate": "\ud800",
    "surrogates that would come back as another string": "\udcc3\udca9",
    "what looks like a length": "$-1",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_lone_surrogates_nul_cr_lf_in_any_string(text: str, server: RedisServer, client: Redis) -> None:
    plain = ThingCreated(id="t", group_id="g", profile_id="p")
    events = [
        Event(ThingCreated(id=text, group_id="g", profile_id="p")),
        Event(ThingCreated(id="t", group_id="g", profile_id="p", name=text)),
        Event(ThingCreated(id="t", group_id="g", profile_id="p", metadata={"key": text})),
        Event(ThingCreated(id="t", group_id="g", profile_id="p", metadata={text: "value"})),
        Event(ThingCreated(id="t", group_id="g", profile_id="p", metadata={"deep": [{text: [text]}]})),
        Event(ProfileUpdated(id="t", name=text)),
        Event(UnknownAction(text, {})),
        Event(UnknownAction("some.operation", {text: "value", "name": text})),
        Event(plain, identity=Identity(id=text, email=text)),
        Event(plain, org_id=text, group_id=text),
    ]
    accepted = []
    async with History().publisher(server.url) as publisher:
        for event in events:
            try:
                await publisher.send(event)
            except EncodeError:
                assert publisher.stats.accepted == len(accepted), "nothing was enqueued"
            else:
                accepted.append(event)
        assert publisher.stats.retries == 0
    assert await client.xlen(STREAM) == len(accepted)
    async with subscriber(server, on_unknown="yield") as reader:
        for event in accepted:
            came = await anext(reader)
            assert (came.action, came.identity) == (event.action, event.identity)
            assert (came.org_id, came.group_id) == (event.org_id, event.group_id)
    if text in (TEXTS["line breaks"], TEXTS["NUL"], TEXTS["what looks like a length"]):
        assert len(accepted) >= 8
