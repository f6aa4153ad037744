"""Events to the fields of an entry and back: the form that the Go side writes and reads.

The fields of an entry are packed once, when the event is published, as the bulk strings of the command that appends
them; from then on an event is one bytes object. Their order is fixed: operation, the action's fields as declared, then
the envelope. Redis keeps entries that repeat their predecessor's names in less memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from . import values
from .codec import CODECS, ENVELOPE, Codec, Fields, codec_for, codec_of
from .entries import Entry
from .errors import DecodeError, EncodeError
from .events import OPERATION, Action, Event, Identity, UnknownAction, acting
from .resp import Heads, bulk

_OPERATION: Final = OPERATION.encode()


def encode(event: Event | Action, heads: Heads) -> bytes:
    """The packed command that appends an event: a head by the number of fields, and the fields.

    An absent time is now; an identity that is set by `acting_as` replaces the event's.

    Raises:
        EncodeError: something cannot be written, by name of the field.
    """
    if not isinstance(event, Event):
        event = Event(event)
    action = event.action
    codec = CODECS.get(type(action)) or _codec_to_write(action)
    identity = acting.get() or event.identity
    moment = event.occurred_at
    try:
        occurred_at = values.now_octets() if moment is None else values.time_octets(moment)
        text = codec.pack_text(
            action, identity, event.org_id, event.group_id, occurred_at, heads.in_text, None
        )
        if text.isascii():
            return text.encode()
    except Exception:  # noqa: S110 - a long value, or what cannot be written: the next ones tell
        pass
    return _encode_any(event, codec, identity, heads)


def _encode_any(event: Event, codec: Codec, identity: Identity, heads: Heads) -> bytes:
    action, moment = event.action, event.occurred_at
    try:
        occurred_at = values.now_octets() if moment is None else values.time_octets(moment)
        return codec.pack(action, identity, event.org_id, event.group_id, occurred_at, heads, str.encode)
    except Exception:
        # A text with lone surrogates, or what cannot be written: the slow way tells them apart.
        codec.explain_unwritable(action)
        occurred_at = _checked_envelope(event, identity)
        return codec.pack(action, identity, event.org_id, event.group_id, occurred_at, heads, values.octets)


def _codec_to_write(action: object) -> Codec:
    if isinstance(action, UnknownAction):
        raise EncodeError(
            action.operation, "", "no class is known for it: pass on a received event with forward()"
        )
    if not isinstance(action, Action) or type(action) is Action:
        raise EncodeError("", "", f"an Event or an Action is wanted, not {type(action).__name__}")
    return codec_of(type(action))


def _checked_envelope(event: Event, identity: Identity) -> bytes:
    """Raise EncodeError for the part of the envelope that cannot be written; else give the time that is."""
    operation = event.action.operation
    if not isinstance(identity, Identity):
        raise EncodeError(operation, "identity", f"it must be an Identity, not {type(identity).__name__}")
    texts = {"org_id": event.org_id, "group_id": event.group_id}
    if identity.id:
        texts |= {"identity.id": identity.id, "identity.email": identity.email}
    for field, text in texts.items():
        try:
            values.octets(text)
        except ValueError as error:
            raise EncodeError(operation, field, str(error)) from None
    try:
        return values.now_octets() if event.occurred_at is None else values.time_octets(event.occurred_at)
    except ValueError as error:
        raise EncodeError(operation, "occurred_at", str(error)) from None


def pack_raw(raw: Iterable[tuple[bytes, bytes]], heads: Mapping[int, bytes]) -> bytes:
    """The packed command that appends fields as they came."""
    octets = [part for pair in raw for part in pair]
    return b"".join([heads[len(octets)], *map(bulk, octets)])


def operation_of(entry: list[bytes]) -> bytes | None:
    """The operation of an entry, without looking at the rest where its place is plain. The last one wins."""
    if entry.count(_OPERATION) == 1:
        position = entry.index(_OPERATION)
        if position % 2 == 0:
            return entry[position + 1]
    return fields_of(entry).get(_OPERATION)


def operations_of(entries: Iterable[Entry]) -> list[bytes]:
    """The operation of each entry, empty where it has none."""
    return [
        fields[1]
        if fields[0] == _OPERATION and fields.count(_OPERATION) == 1
        else operation_of(fields) or b""
        for _, fields in entries
    ]


def fields_of(entry: list[bytes]) -> Fields:
    """Names and values in turn to a mapping. Of a name that occurs twice the last value wins."""
    parts = iter(entry)
    return dict(zip(parts, parts))  # noqa: B905 - naming the default costs a fifth of it


def decode(entry: list[bytes], stream: str = "", id: str = "") -> Event:
    """The event of an entry, its names and values in turn. An unknown operation gives an `UnknownAction`.

    Raises:
        DecodeError: the fields are not those of the action; the platform's own always are.
    """
    codec = codec_for(operation_of(entry) or b"")
    if codec is None:
        return _unknown(entry, stream, id)
    try:
        return codec.unpack(codec.values_of(entry), bytes.decode, stream, id, entry)
    except Exception:
        # Bytes that are not UTF-8 somewhere, or what the action does not take: the slow way tells them apart.
        try:
            return codec.unpack(codec.values_of(entry), values.text_of, stream, id, entry)
        except Exception:
            field, reason = codec.explain_unreadable(fields_of(entry))
            raise DecodeError(codec.action.operation, field, reason, stream, id) from None


def decode_plain(entries: Iterable[Entry], stream: str) -> list[Event]:
    """The events of entries, up to the first that has to be looked at more closely.

    Args:
        entries: IDs and fields, the names and values in turn.
        stream: the stream they are from.
    """
    events: list[Event] = []
    rest = iter(entries)
    try:
        entry = next(rest, None)
        while entry is not None:
            codec = codec_for(operation_of(entry[1]) or b"")
            if codec is None:
                break
            entry = codec.read_alike(entry, rest, stream, events)
    except Exception:  # noqa: S110 - why, shows when that entry is looked at by itself
        pass
    return events


def _unknown(entry: list[bytes], stream: str, id: str) -> Event:
    text = {values.text_of(name): values.text_of(value) for name, value in fields_of(entry).items()}
    operation = text.pop(OPERATION, "")
    org_id, group_id, user, email, moment = (text.pop(name.decode(), "") for name in ENVELOPE.values())
    return Event(
        UnknownAction(operation, text),
        Identity(user, email),
        org_id,
        group_id,
        values.time_of(moment.encode("utf-8", "surrogateescape")),
        stream,
        id,
        entry,
    )
