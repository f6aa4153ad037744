"""What holds for any input: each target takes bytes, whatever they are, and fails where it does not.

pytest calls them with the kept corpus and with what hypothesis thinks of, `nox -s fuzz` with what atheris finds. No
target needs a server, or lets anything out but an AssertionError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any, Final

import hiredis

from mainflux_events import Event, Identity
from mainflux_events.actions import PLATFORM_ACTIONS, ThingCreated
from mainflux_events.batch import Transactions
from mainflux_events.channel import Channel, Reply
from mainflux_events.entries import Entries
from mainflux_events.errors import DecodeError, EncodeError, EventsError
from mainflux_events.events import Action, UnknownAction
from mainflux_events.hooks import Observers
from mainflux_events.idempotent import Numbered
from mainflux_events.refusals import LONGEST, Refusal
from mainflux_events.resp import Append, command
from mainflux_events.sieve import Sieve
from mainflux_events.values import (
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    config_of,
    object_octets,
    object_of,
    time_of,
)
from mainflux_events.wire import decode, decode_plain, encode, pack_raw

# What stands between the fields of an entry, between entries, and between texts, in the bytes of an input.
BETWEEN: Final = b"\xff\x00"
BETWEEN_ENTRIES: Final = b"\xff\x01"


class FuzzedOrder(Action, tag="fuzzed.order"):
    """An action of a user's own."""

    name: str
    count: int
    lines: list[dict[str, float]] = []  # noqa: RUF012 - msgspec makes a new one each time
    note: str | None = None


def _outcome(call: Callable[..., Any], *arguments: object) -> Any:
    """What a call gives, or the error of this package that it raises. Any other goes through."""
    try:
        return call(*arguments)
    except EventsError as error:
        return error


# --- commands -------------------------------------------------------------------------------------------------------


def commands_of(packed: bytes) -> list[list[bytes]]:
    """The commands that a server would see in these bytes, read as the protocol has it, strictly and to the end."""
    commands, at = [], 0

    def number(mark: bytes) -> int:
        nonlocal at
        assert packed[at : at + 1] == mark, f"{mark!r} is wanted at {at}"
        ends = packed.index(b"\r\n", at)
        digits = packed[at + 1 : ends]
        assert digits.isdigit(), digits
        assert digits == b"%d" % int(digits), "zeros in front"
        at = ends + 2
        return int(digits)

    while at < len(packed):
        arguments = []
        for _ in range(number(b"*")):
            size = number(b"$")
            arguments.append(packed[at : at + size])
            assert len(arguments[-1]) == size, "it ends before its end"
            at += size
            assert packed[at : at + 2] == b"\r\n", "it is longer than it says"
            at += 2
        commands.append(arguments)
    return commands


def texts(data: bytes) -> None:
    """Whatever is in its strings, an event is one command, with these strings as its arguments, or is refused."""
    given = [part.decode("utf-8", "surrogateescape") for part in data.split(BETWEEN)]
    if len(data) % 3 == 1:
        # Surrogates for bytes that together are a character.
        given = [part.decode("ascii", "surrogateescape") for part in data.split(BETWEEN)]
    elif len(data) % 3 == 2:
        # Surrogates that stand for no byte.
        given = [text[:1] + chr(0xD800 + len(text) % 0x800) + text[1:] for text in given]
    stream, id, name, org_id, group_id, user, email, *ids = (given * 7)[: max(7, len(given))]
    max_len = None if len(data) % 2 else len(data) + 1
    identity = Identity(user, email)
    for action in (
        ThingCreated(
            id=id, group_id=group_id, profile_id=email, name=name, metadata={name: [id, {user: email}]}
        ),
        *(action(**dict.fromkeys(_texts_of(action), name)) for action in PLATFORM_ACTIONS),
        FuzzedOrder(name=name, count=len(ids), note=id),
    ):
        _is_one_command(Event(action, identity, org_id, group_id), stream, max_len)
    raw = [(name.encode("utf-8", "replace"), value.encode("utf-16", "surrogatepass")) for name, value in
           pairwise(given)]  # fmt: skip
    heads = Append("things", max_len)
    [arguments] = commands_of(pack_raw(raw, heads))
    assert arguments[-2 * len(raw) :] == [part for pair in raw for part in pair] or not raw
    octets = data.split(BETWEEN)
    assert commands_of(command(*octets)) == [octets]


def _texts_of(action: type[Action]) -> list[str]:
    return [name for name in action.__struct_fields__ if name not in ("metadata", "config", "thing_ids")]


def _is_one_command(event: Event, stream: str, max_len: int | None) -> None:
    try:
        heads = Append(stream, max_len)
    except UnicodeEncodeError:
        return  # a publisher refuses such a stream before
    packed = _outcome(encode, event, heads)
    if isinstance(packed, EventsError):
        assert type(packed) is EncodeError
        assert packed.operation == event.action.operation
        assert packed.field
        return
    [arguments] = commands_of(packed)
    trim = [] if max_len is None else [b"MAXLEN", b"~", b"%d" % max_len]
    head = [b"XADD", stream.encode(), *trim, b"*"]
    assert arguments[: len(head)] == head
    entry = arguments[len(head) :]
    names = entry[::2]
    assert len(set(names)) == len(names)
    again = decode(entry)
    assert again == Event(
        event.action,
        event.identity if event.identity.id else Identity(),
        event.org_id,
        event.group_id,
        again.occurred_at,
    )
    batch = [packed, packed, packed]
    written, replies = Transactions("s", None).payload(batch)
    assert commands_of(written) == [[b"MULTI"], arguments, arguments, arguments, [b"EXEC"]]
    assert replies == len(batch) + 2


# --- entries --------------------------------------------------------------------------------------------------------


def entries(data: bytes) -> None:
    """Any entries are read one like the other, to the end, whatever they hold; nothing but a DecodeError stops one."""
    batch = Entries([], [])
    for number, part in enumerate(data.split(BETWEEN_ENTRIES)):
        fields = part.split(BETWEEN)
        batch.ids.append(b"%d-1" % number)
        batch.fields.append(fields if len(fields) % 2 == 0 else [*fields, b""])
    events = [_read(id, fields) for id, fields in batch]
    _are_read_alike(batch, events)
    for skips, wanted, kept in product((True, False), (None, [ThingCreated]), (True, False)):
        sieve = Sieve(wanted, "skip" if skips else "yield", Observers(()), dead_letters=kept)
        found: list[Event] = []
        looked_at = dead = 0
        while looked_at < len(batch):
            passed, run, error, ends = sieve.sift("things", batch[looked_at:])
            dead += error is not None
            assert len(ends) == len(run) + (error is not None)
            assert passed or ends, "an endless loop"
            looked_at += ends[-1] if ends else passed
            found += run
        assert looked_at == len(batch)
        assert len(found) + sieve.skipped + sieve.given_up + dead == len(batch)
        assert (sieve.given_up if kept else dead) == 0
        expected = [event for event in events if _comes(event, skips, wanted)]
        assert found == expected
        assert [event.id for event in found] == [event.id for event in expected]


def _read(id: bytes, fields: list[bytes]) -> Event | None:
    """The event of an entry, None where it does not decode."""
    event = _outcome(decode, fields, "things", id.decode())
    if isinstance(event, EventsError):
        assert type(event) is DecodeError
        assert (event.operation, event.stream, event.id) == ("fuzzed.order", "things", id.decode())
        assert event.field in ("name", "count", "lines", "note", "operation")
        return None
    assert event.raw == tuple(zip(fields[::2], fields[1::2], strict=True)), (
        "all of the entry, and nothing else"
    )
    assert (event.stream, event.id) == ("things", id.decode())
    last = dict(event.raw).get(b"operation", b"").decode("utf-8", "surrogateescape")
    assert event.action.operation == last
    if type(event.action) in PLATFORM_ACTIONS:
        assert event.action.id == dict(event.raw).get(b"id", b"").decode("utf-8", "surrogateescape")  # type: ignore[attr-defined]
    known = {action.operation for action in (*PLATFORM_ACTIONS, FuzzedOrder)}
    assert (type(event.action) is UnknownAction) is (last not in known)
    [again] = commands_of(pack_raw(event.raw, Append("s", None)))
    assert again[3:] == fields
    return event


def _are_read_alike(batch: Entries, events: list[Event | None]) -> None:
    """Those that are read in a run, where each is taken to be like the one before, are what they are by themselves."""
    at = 0
    while at < len(batch):
        run = decode_plain(batch[at:], "things")
        assert run == events[at : at + len(run)]
        for event, by_itself in zip(run, events[at:], strict=False):
            assert by_itself is not None
            assert (type(event.action), event.id) == (type(by_itself.action), by_itself.id)
        at += len(run) + 1


def _comes(event: Event | None, skips: bool, wanted: list[type[Action]] | None) -> bool:
    if event is None:
        return False
    if type(event.action) is UnknownAction:
        return not skips
    return wanted is None or type(event.action) in wanted


# --- JSON and times -------------------------------------------------------------------------------------------------


def json(data: bytes) -> None:
    """What is no JSON object within the bounds is none, and what is one can be written again, if it is finite."""
    value = object_of(data)
    if value is not None:
        assert len(data) <= MAX_JSON_BYTES
        assert _depth(value) <= MAX_JSON_DEPTH
        written = object_octets(value)
        assert object_of(written) == value
    config = config_of(data)
    moment = time_of(data)
    assert moment is None or moment.utcoffset() is not None
    event = decode(
        [
            b"operation",
            b"profile.update",
            b"metadata",
            data,
            b"config",
            data,
            b"occurred_at",
            data,
            b"id",
            data,
        ]
    )
    assert (event.action.metadata, event.action.config) == (value, config)  # type: ignore[attr-defined]
    assert event.occurred_at == moment
    order = _outcome(decode, [b"operation", b"fuzzed.order", b"name", b"", b"count", data, b"lines", data])
    if isinstance(order, EventsError):
        assert type(order) is DecodeError
        assert order.field in ("count", "lines")


def _depth(value: object) -> int:
    deepest, level = 0, [value]
    while containers := [each for each in level if isinstance(each, dict | list)]:
        deepest += 1
        level = [item for each in containers for item in (each.values() if isinstance(each, dict) else each)]
    return deepest


# --- replies --------------------------------------------------------------------------------------------------------


class _Transport(asyncio.Transport):
    """The end of a connection at which bytes come that were not asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.protocol: Any = asyncio.Protocol()

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def write(self, data: Any) -> None:
        pass

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


class _Connection:
    def __init__(self, transport: _Transport) -> None:
        self._writer = self
        self.transport = transport


def replies(data: bytes) -> None:
    """Whatever a server sends, each exchange gets its replies, or is told why not. Nothing else comes of it."""
    asyncio.run(_replies(data))


async def _replies(data: bytes) -> None:
    size, wanted = (data[0] % 61 + 1, data[0] % 5 + 1) if data else (1, 1)
    transport = _Transport()
    channel = Channel(_Connection(transport), 5.0)
    answers: list[tuple[list[Reply], str]] = []
    for _ in range(3):
        channel.post(b"", wanted, lambda found, ended: answers.append((found, ended)))
    for at in range(1, len(data), size):
        if not channel.alive:
            break
        channel.data_received(data[at : at + size])
    channel.connection_lost(None)
    assert len(answers) == 3
    for found, ended in answers:
        assert len(found) == wanted if not ended else len(found) < wanted
        for reply in found:
            _is_bounded(reply)
        _is_no_answer_or_a_good_one(found, wanted)


def _is_bounded(reply: Any) -> None:
    if isinstance(reply, Refusal):
        assert len(str(reply)) <= LONGEST
        assert isinstance(reply.code, str)
        assert reply.outlook
    else:
        assert reply is None or isinstance(
            reply, bytes | int | float | list | dict | str | hiredis.PushNotification
        )


def _is_no_answer_or_a_good_one(found: list[Reply], wanted: int) -> None:
    """To a batch that has so many replies: no more is acknowledged than was sent, and nothing is passed over."""
    if wanted in (2, 3):
        return  # no batch has
    transactions, events = Transactions("things", None), max(1, wanted - 2)
    verdict = transactions.verdict(events, found)
    assert len(verdict.acknowledged) <= events
    if len(found) == wanted:
        assert verdict.refusal or len(verdict.acknowledged) == events, (
            "it would be sent again at once, for ever"
        )
    numbered = Numbered("things", None)
    batch = [pack_raw([(b"operation", b"thing.remove")], numbered.heads)]
    for replies in ([b"1 1 0"], found[:1]):  # to a claim, and then to a batch
        numbered.payload(batch)
        verdict = numbered.verdict(1, replies)
        assert len(verdict.acknowledged) <= 1
    assert not found or verdict.acknowledged or verdict.refusal


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "texts": texts,
    "entries": entries,
    "json": json,
    "replies": replies,
}
