"""What is compiled for each action class: how its fields are packed, and how they are read.

As with the `__init__` of a dataclass, the source of a function is put together once from what is known of the class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final, TypeAlias

import msgspec

from . import values
from .entries import Entry
from .errors import DecodeError, EncodeError
from .events import OPERATION, Action, Event, Identity, action_classes
from .forms import Form, forms_of
from .resp import SIZES, bulk, size

Fields = dict[bytes, bytes]

# (entry, rest, stream, events): appends the events of this entry and of those behind it that are like it, and gives the
# first that is not; None at the end.
ReadAlike: TypeAlias = "Callable[[Entry, Iterator[Entry], str, list[Event]], Entry | None]"

ENVELOPE: Final = {
    "org_id": b"evt_org_id",
    "group_id": b"evt_group_id",
    "identity.id": b"jwt_identity_user_id",
    "identity.email": b"jwt_identity_user_email",
    "occurred_at": b"occurred_at",
}


class Codec:
    """What is compiled for one action class.

    Attributes:
        pack: (action, identity, org_id, group_id, occurred_at, heads, text) to the packed command.
        pack_text: the same in characters, of which each is a byte where all are ASCII. Long values raise.
        unpack: (values, text, stream, id, fields) to the event; the values as `values_of` gives them.
        names: the fields that are known, in the order that they are written in.
    """

    def __init__(self, action: type[Action]) -> None:
        self.action = action
        self.forms: tuple[Form, ...] = forms_of(action)
        names = _pack_names(action, self.forms)
        self.pack: Callable[..., bytes] = _compile(_pack_source(action, self.forms, _IN_OCTETS), names)
        self.pack_text: Callable[..., str] = _compile(
            _pack_source(action, self.forms, _IN_TEXT), _in_text(names, self.forms)
        )
        self.unpack: Callable[..., Event] = _compile(*_unpack_source(action, self.forms))
        self.names: tuple[bytes, ...] = (*(form.name.encode() for form in self.forms), *ENVELOPE.values())
        self._met: set[tuple[bytes, ...]] = set()
        self._readers: dict[tuple[bytes, ...], ReadAlike] = {}
        self._latest: ReadAlike | None = None

    def values_of(self, fields: list[bytes]) -> Iterator[bytes | None]:
        """The values of the known names, None for what is not there. Of a name that occurs twice the last one wins."""
        pairs = iter(fields)
        return map(dict(zip(pairs, pairs)).get, self.names)  # noqa: B905 - as in `wire.fields_of`

    def read_alike(
        self, entry: Entry, rest: Iterator[Entry], stream: str, events: list[Event]
    ) -> Entry | None:
        """Read this entry and those behind it that are like it. A `ReadAlike` for any names; raises where it cannot."""
        # Most are like the last one of the same operation.
        if self._latest is not None:
            read = len(events)
            behind = self._latest(entry, rest, stream, events)
            if len(events) > read:
                return behind
        id, fields = entry
        reader = self._reader(tuple(fields[::2]))
        if reader is not None:
            self._latest = reader
            return reader(entry, rest, stream, events)
        if len(fields) % 2:
            raise DecodeError(self.action.operation, "", "its fields are no names and values", stream, "")
        events.append(self.unpack(self.values_of(fields), bytes.decode, stream, id.decode(), fields))
        return next(rest, None)

    def _reader(self, names: tuple[bytes, ...]) -> ReadAlike | None:
        """What reads entries whose names come in this order; None where it is not worth a function of its own."""
        reader = self._readers.get(names)
        if reader is None and len(self._readers) < MOST_SHAPES:
            if names not in self._met:
                if len(self._met) >= MOST_SHAPES:
                    self._met.clear()
                self._met.add(names)
            elif names[:1] == (OPERATION.encode(),) and len(set(names)) == len(names):
                reader = self._readers[names] = _compile(*_reader_source(self.action, self.forms, names))
        return reader

    def explain_unwritable(self, action: Action) -> None:
        """Raise EncodeError for the field that cannot be written, if there is one."""
        for form in self.forms:
            try:
                value = getattr(action, form.attribute)
                if not form.is_default(value):
                    form.write(value)
            except ValueError as error:
                reason = str(error)
            except Exception as error:
                # What the comparison or the default of a user's type raises, in words that may hold values.
                reason = f"{type(error).__name__} was raised when it was written"
            else:
                continue
            raise EncodeError(action.operation, form.attribute, reason) from None

    def explain_unreadable(self, fields: Fields) -> tuple[str, str]:
        """The field that `unpack` did not take, and why."""
        for form in self.forms:
            octets = fields.get(form.name.encode())
            if octets is None:
                if form.required and not form.lenient:
                    return form.name, "it is missing and has no default"
                continue
            try:
                form.read(octets)
            except ValueError as error:
                return form.name, str(error)
        upgraded = ", or its upgrade() does not take them" if _is_older(self.action) else ""
        return OPERATION, f"{self.action.__name__} cannot be made of these values{upgraded}"


def _compile(lines: list[str], names: dict[str, Any]) -> Any:
    """The function that these lines define, which refer to these names."""
    namespace: dict[str, Any] = {}
    # Of the user's own the source holds nothing but names of attributes, which are identifiers.
    exec("\n".join(lines), dict(names), namespace)  # noqa: S102
    return namespace.popitem()[1]


# For how many orders of an action's fields there is a function: for such as were met twice. The Go side writes them in
# any, this package in few.
MOST_SHAPES: Final = 64


def _name(name: str | bytes) -> bytes:
    """The end of the value before it, and the packed name of a field."""
    return b"\r\n" + bulk(name if isinstance(name, bytes) else name.encode())


class _Packing(msgspec.Struct, frozen=True):
    """In what a packing function works: in bytes, which serve any value, or in text, which is quicker.

    In text, characters are taken for bytes, so what is not all ASCII has to be packed again in bytes. And a size that
    `S` does not know raises.

    Attributes:
        name: the function's.
        text, octets: the source of a text, and of bytes, from the name of the value.
        measured: the source of a size and its value, from the source of the value.
    """

    name: str
    text: str
    octets: str
    measured: str

    def triple(self, name: str, value: str, *, text: bool) -> str:
        """The source of a field's parts: its packed name, the size of its value, and the value."""
        return f"{name}, {self.measured.format((self.text if text else self.octets).format(value))}"


_IN_OCTETS: Final = _Packing("pack", "text({})", "{}", "S[n] if (n := len(v := {})) < len(S) else size(n), v")
_IN_TEXT: Final = _Packing("pack_text", "{}", "{}.decode()", "S[len(v := {})], v")


def _pack_source(action: type[Action], forms: tuple[Form, ...], packing: _Packing) -> list[str]:
    required, optional = [], []
    for number, form in enumerate(forms):
        value = f"action.{form.attribute}"
        if form.required:
            written = value if form.text else f"write{number}({value})"
            required.append(packing.triple(f"N{number}", written, text=form.text))
            continue
        default = f"D{number}" if form.factory is msgspec.NODEFAULT else f"factory{number}()"
        optional += [
            f"    value = {value}",
            f"    default = {default}",
            "    if value is not default and (value != default or type(value) is not type(default)):",
        ]
        if not form.text:
            optional += [f"        value = write{number}(value)", "        if value:"]
        optional.append(f"          parts += ({packing.triple(f'N{number}', 'value', text=form.text)})")
    envelope = [packing.triple(name, name.lower(), text=True) for name in ("ORG_ID", "GROUP_ID")]
    acted = [
        packing.triple(f"IDENTITY_{name}", f"identity.{name.lower()}", text=True) for name in ("ID", "EMAIL")
    ]
    occurred = packing.triple("OCCURRED_AT", "occurred_at", text=False)
    return [
        f"def {packing.name}(action, identity, org_id, group_id, occurred_at, heads, text):",
        f"    parts = [NOTHING, OPERATION, {', '.join(required)}]",
        *optional,
        f"    parts += ({', '.join(envelope)})",
        "    if identity.id:",
        f"        parts += ({', '.join(acted)})",
        f"    parts += ({occurred}, END)",
        # All but the operation are three parts: name, size and value.
        "    parts[0] = heads[len(parts) // 3 * 2]",
        "    return NOTHING.join(parts)",
    ]


def _pack_names(action: type[Action], forms: tuple[Form, ...]) -> dict[str, Any]:
    """What the source of a packing function refers to, for one in bytes."""
    names: dict[str, Any] = {"NOTHING": b"", "END": b"\r\n", "S": SIZES, "size": size}
    names["OPERATION"] = bulk(OPERATION.encode()) + bulk(action.operation.encode())[:-2]
    names |= {part.replace(".", "_").upper(): _name(name) for part, name in ENVELOPE.items()}
    for number, form in enumerate(forms):
        names |= {f"N{number}": _name(form.name), f"write{number}": form.write}
        names |= {f"D{number}": form.default, f"factory{number}": form.factory}
    return names


def _in_text(names: dict[str, Any], forms: tuple[Form, ...]) -> dict[str, Any]:
    """The same, for one in text."""
    values = {f"D{number}": form.default for number, form in enumerate(forms)}
    texts = {name: value.decode() for name, value in names.items() if isinstance(value, bytes)}
    return names | texts | {"S": [known.decode() for known in SIZES]} | values


# Names of the envelope's values, in the source of what reads.
_ENVELOPE_VALUES: Final = ("org_id", "group_id", "user", "email", "moment")


def _unpack_source(action: type[Action], forms: tuple[Form, ...]) -> tuple[list[str], dict[str, Any]]:
    event, names = _event_source(action, forms)
    lines = [
        "def unpack(values, text, stream, id, fields):",
        f"    {', '.join(_values(forms))} = values",
        f"    return {event}",
    ]
    return lines, names


def _reader_source(
    action: type[Action], forms: tuple[Form, ...], order: tuple[bytes, ...]
) -> tuple[list[str], dict[str, Any]]:
    """The source of a `ReadAlike` for entries whose names come in this order, the operation's first."""
    event, names = _event_source(action, forms)
    known = (*(form.name.encode() for form in forms), *ENVELOPE.values())
    value_of = dict(zip(known, _values(forms), strict=True))
    absent = [value for name, value in value_of.items() if name not in order]
    taken = [f"_, {value_of.get(name, '_')}" for name in order]
    names |= {
        "NAMES": [*order],
        "OPERATION": action.operation.encode(),
        "chain": chain,
        "decode": bytes.decode,
    }
    lines = [
        "def read(entry, rest, stream, events):",
        f"    {' = '.join([*absent, 'unknown'])} = None",
        "    text, append = decode, events.append",
        "    for id, fields in chain((entry,), rest):",
        "        if fields[::2] != NAMES or fields[1] != OPERATION:",
        "            return id, fields",
        f"        {', '.join(taken)} = fields",
        "        id = text(id)",
        f"        append({event})",
        "    return None",
    ]
    return lines, names


def _values(forms: tuple[Form, ...]) -> list[str]:
    return [*(f"v{number}" for number in range(len(forms))), *_ENVELOPE_VALUES]


def _event_source(action: type[Action], forms: tuple[Form, ...]) -> tuple[str, dict[str, Any]]:
    """The source of an event, from its values, `text`, `stream`, `id` and `fields`; and what that refers to."""
    names: dict[str, Any] = {"Action": action, "Event": Event, "Identity": Identity, "NOBODY": Identity()}
    names["time_of"] = values.time_of
    # Positions are quicker than keywords.
    keyword_only = {
        name
        for name, parameter in inspect.signature(action).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    arguments = []
    for number, form in enumerate(forms):
        names |= {f"read{number}": form.read, f"D{number}": form.default, f"factory{number}": form.factory}
        value = f"{'text' if form.text else f'read{number}'}(v{number})"
        if form.lenient and form.required:
            value = f"{value} if v{number} is not None else ''"
        elif not form.required:
            default = f"D{number}" if form.factory is msgspec.NODEFAULT else f"factory{number}()"
            value = f"{value} if v{number} is not None else {default}"
        keyword = f"{form.attribute}=" if form.attribute in keyword_only else ""
        arguments.append(f"{keyword}{value}")
    made = f"Action({', '.join(arguments)})"
    if _is_older(action):
        names["upgraded"] = _upgraded
        made = f"upgraded({made})"
    parts = [
        made,
        "Identity(text(user or b''), text(email or b'')) if user or email else NOBODY",
        "text(org_id) if org_id else ''",
        "text(group_id) if group_id else ''",
        "time_of(moment) if moment is not None else None",
        "stream, id, fields",
    ]
    return f"Event({', '.join(parts)})", names


def _is_older(action: type[Action]) -> bool:
    """Whether the class stands for an older form, which becomes another when it is read."""
    return callable(getattr(action, "upgrade", None))


def _upgraded(action: Any) -> Action:
    newer = action.upgrade()
    if not isinstance(newer, Action):
        raise TypeError(f"{type(action).__name__}.upgrade gives no Action")
    return newer


CODECS: dict[type[Action], Codec] = {}
_classes: Final = action_classes()


def codec_of(action: type[Action]) -> Codec:
    """The codec of an action class, compiled when it is first asked for (only then are all its types known).

    Raises:
        ConfigError: a field is of a type that cannot be written or read.
    """
    codec = CODECS.get(action)
    if codec is None:
        codec = CODECS[action] = Codec(action)
    return codec


def codec_for(operation: bytes) -> Codec | None:
    """The codec of the class that is known for an operation."""
    action = _classes.get(operation)
    return None if action is None else CODECS.get(action) or codec_of(action)
