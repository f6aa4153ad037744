"""What is published and consumed: an `Event` around an `Action`, and who acted.

Everything here is a frozen msgspec Struct: compared by value, usable in `match`. How an event is written into an
entry of a stream is the matter of `wire`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, ClassVar, dataclass_transform

import msgspec

from .errors import ConfigError
from .resp import pairs_of

OPERATION = "operation"

# Names of fields that belong to the envelope, or to what travels with it: trace context, dead letters.
_RESERVED = {OPERATION, "occurred_at", "traceparent", "tracestate", "baggage"}
_RESERVED_PREFIXES = ("evt_", "jwt_", "dlq_")

# The class of each operation. A class that is defined again (a reloaded module, a notebook's cell) takes its place.
_classes: dict[bytes, type[Action]] = {}


class Identity(msgspec.Struct, frozen=True, gc=False):
    """The user who acted.

    An identity without an ID counts as none: it is not written.
    """

    id: str = ""
    email: str = ""


# For type checkers: a subclass is frozen without saying so.
@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class _ActionMeta(msgspec.StructMeta):
    """Checks an action class when it is made: only there are its fields, its settings and its tag all known."""

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **settings: Any
    ) -> _ActionMeta:
        if namespace.get("__module__") == __name__:
            return super().__new__(mcls, name, bases, namespace, **settings)
        operation = settings.get("tag")
        if not isinstance(operation, str) or not operation:
            raise ConfigError(
                f"action {name}: it needs an operation of its own, a non-empty string: "
                f'class {name}(Action, tag="order.placed")'
            )
        if settings.setdefault("tag_field", OPERATION) != OPERATION:
            raise ConfigError(f"action {name}: tag_field cannot be changed; leave it out")
        try:
            operation.encode()
            made: Any = super().__new__(mcls, name, bases, namespace, **settings)
        except ValueError as error:
            raise ConfigError(f"action {name}: {error}") from None
        _refuse_form(made)
        refuse_unions(made)
        _refuse_taken(made, operation)
        made.operation = operation
        _classes[operation.encode()] = made
        return made  # type: ignore[no-any-return]


def _refuse_form(made: type[Action]) -> None:
    config = made.__struct_config__
    for setting, wrong in (
        ("frozen=False", not config.frozen),
        ("array_like=True", config.array_like),
        ("forbid_unknown_fields=True", config.forbid_unknown_fields),
    ):
        if wrong:
            raise ConfigError(
                f"action {made.__name__}: {setting} changes the form of an action; leave it out"
            )
    for field in (*made.__struct_fields__, *made.__struct_encode_fields__):
        if field in _RESERVED or field.startswith(_RESERVED_PREFIXES):
            raise ConfigError(
                f"action {made.__name__}: the name of field {field!r} belongs to the envelope; "
                "choose another one"
            )


def refuse_unions(made: type[Action]) -> None:
    """Raise ConfigError for a field whose text could not be told from a value of another type."""
    try:
        fields = msgspec.structs.fields(made)
    except (NameError, AttributeError):
        return  # a type is defined later: what is wrong shows when the class is first used
    for field in fields:
        alternatives = alternatives_of(field.type)
        if str in alternatives and not all(each in (str, type(None)) for each in alternatives):
            raise ConfigError(
                f"action {made.__name__}, field {field.name!r}: a union of str with another type cannot be told "
                "apart on the wire; use str, str | None, or a type without str"
            )


def alternatives_of(annotation: Any) -> list[Any]:
    """The types of a union; another type alone. Behind the names and constraints that they have been given."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return alternatives_of(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [each for member in typing.get_args(annotation) for each in alternatives_of(member)]
    # typing.NewType, and the alias of a `type` statement.
    for behind in ("__supertype__", "__value__"):
        if hasattr(annotation, behind):
            return alternatives_of(getattr(annotation, behind))
    return [annotation]


def _refuse_taken(made: type[Action], operation: str) -> None:
    other = _classes.get(operation.encode())
    if other and (other.__module__, other.__qualname__) != (made.__module__, made.__qualname__):
        raise ConfigError(
            f"action {made.__name__}: the operation {operation!r} is that of "
            f"{other.__module__}.{other.__qualname__}; choose another one"
        )


class Action(msgspec.Struct, frozen=True, metaclass=_ActionMeta):
    """What happened. An action of one's own is a subclass whose tag is its operation:

        class OrderPlaced(Action, tag="order.placed"):
            order_id: str
            lines: list[Line] = []

    A field declared `str` or `str | None` is written as it is, every other type as msgspec's JSON. A field without a
    default is always written; one with a default is left out where it equals it in type and value. Reading, a missing
    field takes its default: so changing a default changes what old entries mean.

    A class with a method `upgrade(self) -> Action` stands for an older form: what is read becomes what that gives.

    Raises, when the class is made:
        ConfigError: no tag, a tag or a field's name that is taken, or a setting that would change the form.
    """

    operation: ClassVar[str]


class UnknownAction(Action, frozen=True):
    """An action of an operation that no class is known for (`Subscriber(on_unknown="yield")`).

    Attributes:
        operation: the entry's operation, empty where it has none.
        fields: what is in the entry besides the envelope. Bytes that are not UTF-8 are lone surrogates, as
            Python's `surrogateescape` gives them.
    """

    operation: str  # type: ignore[misc]
    fields: Mapping[str, str] = {}


class Event(msgspec.Struct, frozen=True, gc=False):
    """An action with its envelope.

    Attributes:
        action: what happened.
        identity: who did it.
        org_id, group_id: where it happened; empty where that says nothing.
        occurred_at: when it happened. It needs a time zone. Publishing, none means now; received, it is in UTC, and
            none where the entry has no time that can be read.

    A received event also knows its entry: `id`, `stream` and `raw`. They take no part in `==` and hash.
    """

    action: Action
    identity: Identity = Identity()
    org_id: str = ""
    group_id: str = ""
    occurred_at: datetime | None = None
    # `gc=False`: none of it leads back to the event, so the garbage collector need not look at it, which it would do
    # several times where thousands are read at once.
    # The entry it was received in: stream, ID, and names and values in turn. Fields and not attributes on the side, so
    # that copying, pickling and msgspec.structs.replace keep them.
    _stream: str = ""
    _id: str = ""
    _fields: list[bytes] | None = None

    @property
    def id(self) -> str:
        """The ID of the entry, "" where the event was not received."""
        return self._id

    @property
    def stream(self) -> str:
        """The stream of the entry, "" where the event was not received."""
        return self._stream

    @property
    def raw(self) -> tuple[tuple[bytes, bytes], ...]:
        """The fields of the entry as they came, pairs of name and value; () where the event was not received."""
        return () if self._fields is None else pairs_of(self._fields)

    def _facts(self) -> tuple[object, ...]:
        return (self.action, self.identity, self.org_id, self.group_id, self.occurred_at)

    def __eq__(self, other: object) -> bool:
        return self._facts() == other._facts() if isinstance(other, Event) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._facts())

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The parts of the repr: what a reader wants to see, without what has its default."""
        parts = [
            (name, getattr(self, name)) for name in ("org_id", "group_id", "occurred_at", "stream", "id")
        ]
        identity = [] if self.identity == Identity() else [("identity", self.identity)]
        return [("action", self.action), *identity, *(part for part in parts if part[1])]

    def __repr__(self) -> str:
        return f"Event({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def action_classes() -> Mapping[bytes, type[Action]]:
    """The known action classes by their operations: the ten of the platform, and the user's own."""
    return _classes


acting: ContextVar[Identity | None] = ContextVar("mainflux_events_acting", default=None)


@contextmanager
def acting_as(identity: Identity) -> Iterator[None]:
    """Within this context, the given identity replaces that of every event that is published.

    It follows tasks and anyio's threads, as context variables do. An identity without an ID replaces nothing.
    """
    if not isinstance(identity, Identity):
        raise ConfigError(
            f"acting_as: an Identity is wanted, not {type(identity).__name__}; Identity() is nobody"
        )
    token = acting.set(identity if identity.id else None)
    try:
        yield
    finally:
        acting.reset(token)
