"""Events to the fields of an entry and back: the form that the Go side writes and reads.

The fields of an entry are packed once, when the event is published, as the bulk strings of the command that appends
them; from then on an event is one bytes object. Their order is fixed: operation, the action's fields as declared, then
the envelope. Redis keeps entries that repeat their predecessor's names in less memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from . import values
from .codec import CODECS, ENVELOPE, Codec, Fields, codec_for, codec_of
from .errors import DecodeError, EncodeError
from .events import OPERATION, Action, Event, Identity, UnknownAction, acting
from .resp import bulk

_OPERATION: Final = OPERATION.encode()
_NOBODY: Final = Identity()


def encode(event: Event | Action, heads: Mapping[int, bytes]) -> bytes:
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
    try:
        moment = event.occurred_at
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


def fields_of(entry: list[bytes]) -> Fields:
    """Names and values in turn to a mapping. Of a name that occurs twice the last value wins."""
    parts = iter(entry)
    return dict(zip(parts, parts))  # noqa: B905 - naming the default costs a fifth of it


def decode(entry: list[bytes], stream: str = "", id: str = "") -> Event:
    """The event of an entry, its names and values in turn. An unknown operation gives an `UnknownAction`.

    Raises:
        DecodeError: the fields are not those of the action; the platform's own always are.
    """
    fields = fields_of(entry)
    operation = fields.get(_OPERATION, b"")
    codec = codec_for(operation)
    try:
        return _event(codec, fields, bytes.decode, (stream, id, entry))
    except Exception:
        # Bytes that are not UTF-8 somewhere, or what the action does not take: the slow way tells them apart.
        return _decode_carefully(codec, fields, (stream, id, entry))


def _decode_carefully(codec: Codec | None, fields: Fields, entry: tuple[str, str, list[bytes]]) -> Event:
    try:
        return _event(codec, fields, values.text_of, entry)
    except Exception:
        assert codec is not None, "without one all is text, which always reads"
        field, reason = codec.explain_unreadable(fields)
        raise DecodeError(codec.action.operation, field, reason, entry[0], entry[1]) from None


def _event(
    codec: Codec | None, fields: Fields, text: Callable[[bytes], str], entry: tuple[str, str, list[bytes]]
) -> Event:
    get = fields.get
    action = _unknown(fields, text) if codec is None else codec.unpack(fields, text)
    user, email = get(b"jwt_identity_user_id", b""), get(b"jwt_identity_user_email", b"")
    moment = get(b"occurred_at")
    return Event(
        action,
        Identity(text(user), text(email)) if user or email else _NOBODY,
        text(get(b"evt_org_id", b"")),
        text(get(b"evt_group_id", b"")),
        None if moment is None else values.time_of(moment),
        entry,
    )


def _unknown(fields: Fields, text: Callable[[bytes], str]) -> UnknownAction:
    envelope = {_OPERATION, *ENVELOPE.values()}
    return UnknownAction(
        text(fields.get(_OPERATION, b"")),
        {text(name): text(value) for name, value in fields.items() if name not in envelope},
    )
