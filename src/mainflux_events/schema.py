"""The streams described for others: an AsyncAPI 3 document, made from the action classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from .actions import AUTH_STREAM, PLATFORM_ACTIONS, THINGS_STREAM, OrgCreated, OrgRemoved, ProfileConfig
from .codec import ENVELOPE, codec_of
from .cursor import checked_streams
from .errors import ConfigError
from .events import OPERATION, Action, alternatives_of

Schema = dict[str, Any]

_AUTH: Final = (OrgCreated, OrgRemoved)

# The streams of the platform, and what is published to each.
PLATFORM_STREAMS: Final[Mapping[str, tuple[type[Action], ...]]] = {
    THINGS_STREAM: tuple(action for action in PLATFORM_ACTIONS if action not in _AUTH),
    AUTH_STREAM: _AUTH,
}

_COMPONENTS: Final = "#/components/schemas/{name}"

# The platform's fields that are written in a form of their own.
_PLATFORM: Final[Mapping[str, Any]] = {"metadata": dict[str, Any], "config": ProfileConfig}

_ENVELOPE: Final[dict[str, Schema]] = {
    "evt_org_id": {"type": "string", "description": "The organisation in which it happened."},
    "evt_group_id": {"type": "string", "description": "The group in which it happened."},
    "jwt_identity_user_id": {
        "type": "string",
        "description": "The user who acted; left out where there is none.",
    },
    "jwt_identity_user_email": {"type": "string", "description": "The user's address; left out with the ID."},
    "occurred_at": {"type": "string", "format": "date-time", "description": "When it happened."},
}
assert {name.encode() for name in _ENVELOPE} == set(ENVELOPE.values())


def asyncapi(
    streams: Mapping[str, Iterable[type[Action]]] = PLATFORM_STREAMS,
    *,
    title: str = "Domain events",
    version: str = "1.0.0",
) -> dict[str, Any]:
    """An AsyncAPI 3.0.0 document of streams and the entries that are on them.

    An entry is a flat map of strings. A field that is declared `str` is described as it is; every other one is a string
    that holds JSON, whose own schema is that of msgspec.

    Args:
        streams: the action classes that are published to each stream, by its key.
        title: of the document.
        version: of the document, such as that of the service that publishes.

    Raises:
        ConfigError: what is given is no mapping of streams to action classes, or a field is of a type that no JSON
            schema is known for.
    """
    published = {stream: _classes(stream, classes) for stream, classes in dict(streams).items()}
    checked_streams(published)
    every = list(dict.fromkeys(action for classes in published.values() for action in classes))
    payloads, components = _payloads(every)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": title,
            "version": version,
            "description": "Entries of Redis streams, as mainflux-events and the Go package of Mainflux write them.",
        },
        "defaultContentType": "application/json",
        "channels": {_key(stream): _channel(stream, classes) for stream, classes in published.items()},
        "operations": {
            f"receive-{_key(stream)}": {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{_key(stream)}"},
            }
            for stream in published
        },
        "components": {
            "messages": {_key(action.operation): _message(action, payloads[action]) for action in every},
            "schemas": components,
        },
    }


def _classes(stream: str, classes: Iterable[type[Action]]) -> tuple[type[Action], ...]:
    found = tuple(classes) if isinstance(classes, Iterable) else ()
    if not found or not all(isinstance(action, type) and issubclass(action, Action) for action in found):
        raise ConfigError(f"streams: {stream!r} needs one or several subclasses of Action, not {classes!r}")
    return found


def _key(name: str) -> str:
    """A name as a key of the document, which allows letters, digits, dots, dashes and underscores."""
    return "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "_" for each in name)


def _channel(stream: str, classes: Iterable[type[Action]]) -> Schema:
    references = {
        _key(action.operation): {"$ref": f"#/components/messages/{_key(action.operation)}"}
        for action in classes
    }
    return {"address": stream, "title": f"The stream {stream}", "messages": references}


def _message(action: type[Action], payload: Schema) -> Schema:
    summary = (action.__doc__ or "").strip().partition("\n")[0]
    message = {"name": action.operation, "title": action.__name__, "payload": payload}
    return message | ({"summary": summary} if summary else {})


def _payloads(actions: Iterable[type[Action]]) -> tuple[dict[type[Action], Schema], dict[str, Schema]]:
    """The schemas of the entries, and those of the types that they refer to."""
    fields = {action: _fields(action) for action in actions}
    kinds = {field: kind for described in fields.values() for field, kind, _ in described}
    try:
        schemas, components = msgspec.json.schema_components(kinds.values(), ref_template=_COMPONENTS)
    except TypeError as error:
        raise ConfigError(f"streams: no JSON schema can be made of a field's type: {error}") from None
    schema_of = dict(zip(kinds, schemas, strict=True))
    payloads = {}
    for action, described in fields.items():
        properties: Schema = {OPERATION: {"type": "string", "const": action.operation}}
        properties |= {field[1]: _property(schema_of[field], text) for field, _, text in described}
        required = [field[1] for field, kind, _ in described if field in _required(action)]
        payloads[action] = {
            "type": "object",
            "properties": properties | _ENVELOPE,
            "required": [OPERATION, *required, "evt_org_id", "evt_group_id", "occurred_at"],
        }
    return payloads, components


Field = tuple[type[Action], str]


def _fields(action: type[Action]) -> list[tuple[Field, Any, bool]]:
    """Each field, the type that its schema is made from, and whether it is written as it is."""
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(action)}
    found = []
    for form in codec_of(action).forms:
        kind: Any = kinds[form.name]
        if form.lenient:
            kind = str if form.name == "thing_ids" else _PLATFORM.get(form.name, str)
        as_it_is = all(each in (str, type(None)) for each in alternatives_of(kind))
        found.append(((action, form.name), kind, as_it_is))
    return found


def _required(action: type[Action]) -> set[Field]:
    return {(action, form.name) for form in codec_of(action).forms if form.required}


def _property(schema: Schema, text: bool) -> Schema:
    if text:
        # None is left out, so what is there is a string.
        alternatives = schema.get("anyOf", [schema])
        return next(each for each in alternatives if each["type"] == "string")
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
