"""Events as JSON, which `tail` writes and `publish` reads.

    {"stream": …, "id": …, "operation": …, "occurred_at": …, "org_id": …, "group_id": …,
     "identity": {"id": …, "email": …}, "action": {…}}

What is in `action` are the fields of the action's class, in the JSON that msgspec makes of them. Of an operation that
no class is known for, and of an entry that does not decode, they are the entry's own, as strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from ..codec import ENVELOPE
from ..events import OPERATION, Action, Event, Identity, UnknownAction, action_classes, alternatives_of
from ..schema import PLATFORM_STREAMS
from ..values import text_of
from .stdin import LONGEST

_NAMES: Final = {
    "stream",
    "id",
    "operation",
    "occurred_at",
    "org_id",
    "group_id",
    "identity",
    "action",
    "error",
}
_ENVELOPE_NAMES: Final = {OPERATION, *(name.decode() for name in ENVELOPE.values())}


class NoEvent(ValueError):
    """What is no event, and why; what is in it is not repeated."""


# --- writing --------------------------------------------------------------------------------------------------------


def event_to_json(event: Event, error: str = "") -> dict[str, Any]:
    """An event as JSON.

    Args:
        event: what was received.
        error: why it does not decode as the action that it names, if it does not.
    """
    found: dict[str, Any] = {"stream": event.stream, "id": event.id, "operation": event.action.operation}
    if event.occurred_at is not None:
        found["occurred_at"] = event.occurred_at.isoformat().replace("+00:00", "Z")
    found |= {name: value for name in ("org_id", "group_id") if (value := getattr(event, name))}
    if event.identity != Identity():
        found["identity"] = {"id": event.identity.id, "email": event.identity.email}
    found["action"] = fields_of(event.action)
    return found | ({"error": error} if error else {})


def fields_of(action: Action) -> dict[str, Any]:
    """The fields of an action, as JSON has them. Those that are None are left out."""
    if isinstance(action, UnknownAction):
        return dict(action.fields)
    found: dict[str, Any] = msgspec.to_builtins(action, str_keys=True)
    return {name: value for name, value in found.items() if name != OPERATION and value is not None}


def undecoded(stream: str, id: str, fields: Sequence[bytes]) -> Event:
    """An entry that does not decode, as one of an unknown operation."""
    texts = dict(zip(map(text_of, fields[::2]), map(text_of, fields[1::2]), strict=True))
    plain = {name: value for name, value in texts.items() if name not in _ENVELOPE_NAMES}
    org_id, group_id, user, email, _ = (texts.get(name.decode(), "") for name in ENVELOPE.values())
    action = UnknownAction(texts.get(OPERATION, ""), plain)
    return Event(action, Identity(user, email), org_id, group_id, None, stream, id, list(fields))


# --- reading --------------------------------------------------------------------------------------------------------


def event_of_line(line: str | None) -> Event:
    """The event of a line of JSON; None stands for a line that is too long.

    Raises:
        NoEvent: it is none.
    """
    if line is None:
        raise NoEvent(f"it is longer than {LONGEST:,} bytes")
    try:
        found = json.loads(line)
    except ValueError as error:
        reason = getattr(error, "msg", "the text cannot be read")
        raise NoEvent(f"no JSON: {reason}") from None
    except RecursionError:
        raise NoEvent("no JSON: it is too deep") from None
    if not isinstance(found, dict):
        raise NoEvent("a JSON object is wanted")
    if unknown := found.keys() - _NAMES:
        raise NoEvent(f"{_shown(unknown)} is no part of an event: {', '.join(sorted(_NAMES))} are")
    fields = found.get("action", {})
    if not isinstance(fields, dict):
        raise NoEvent("action: a JSON object is wanted")
    if "error" in found:
        raise NoEvent(
            "it did not decode where it is from, so it is no event; mirror or replay copy such entries"
        )
    envelope = {
        name: found[name] for name in ("occurred_at", "org_id", "group_id", "identity") if name in found
    }
    return make_event(found.get("operation", ""), fields, envelope)


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    occurred_at: datetime | None = None
    org_id: str = ""
    group_id: str = ""
    identity: Identity = Identity()


def make_event(operation: Any, fields: Mapping[str, Any], envelope: Mapping[str, Any]) -> Event:
    """An event of an operation, of the fields of its action, and of what is around it, as JSON has them.

    Raises:
        NoEvent: the operation is not known, or something is not what it has to be.
    """
    action = class_of(operation)
    check_names(action, fields)
    try:
        made = msgspec.convert({**fields, OPERATION: operation}, action, str_keys=True)
        around = msgspec.convert(envelope, _Envelope)
    except (ValueError, RecursionError) as error:
        # What msgspec says has types and paths in backticks, and values in quotes.
        said = re.sub("'.*'", "…", str(error), flags=re.DOTALL)
        reason = said if isinstance(error, msgspec.ValidationError) else type(error).__name__
        raise NoEvent(f"{operation}: {reason}") from None
    return Event(made, around.identity, around.org_id, around.group_id, around.occurred_at)


def class_of(operation: Any) -> type[Action]:
    """The class of an operation. NoEvent where none is known."""
    classes = action_classes()
    found = classes.get(operation.encode("utf-8", "replace")) if isinstance(operation, str) else None
    if found is None:
        known = ", ".join(sorted(each.decode() for each in classes))
        raise NoEvent(
            f"operation: one of these is wanted, or a module that defines another, by --import: {known}"
        )
    return found


def check_names(action: type[Action], fields: Mapping[str, Any]) -> None:
    """Raise NoEvent for a field that the action does not have: a slip of the pen would be left out in silence."""
    names = {field.encode_name for field in msgspec.structs.fields(action)}
    if unknown := fields.keys() - names - {OPERATION}:
        raise NoEvent(f"{action.operation} has no field {_shown(unknown)}: {', '.join(sorted(names))}")


def fields_of_arguments(action: type[Action], arguments: Sequence[str]) -> dict[str, Any]:
    """The fields that are given as `name=value`: text as it is where a field is declared so, JSON where it is not.

    Raises:
        NoEvent: one is not of that form.
    """
    plain = {
        field.encode_name
        for field in msgspec.structs.fields(action)
        if all(each in (str, type(None)) for each in alternatives_of(field.type))
    }
    found: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise NoEvent(f"{name[:40]!r}: name=value is wanted")
        if name in found:
            raise NoEvent(f"{name} is given twice")
        check_names(action, {name: value})
        try:
            found[name] = value if name in plain else json.loads(value)
        except ValueError:
            raise NoEvent(f'{name}: JSON is wanted, such as ["a", "b"]') from None
    return found


def stream_of(action: Action) -> str | None:
    """The platform's stream for an action; None for one that is not the platform's."""
    return next((stream for stream, actions in PLATFORM_STREAMS.items() if type(action) in actions), None)


def _shown(names: set[str]) -> str:
    return ", ".join(repr(name[:40]) for name in sorted(names)[:3])
