"""How each field of an action is written and read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from . import values
from .actions import PLATFORM_ACTIONS
from .errors import ConfigError
from .events import Action, alternatives_of, refuse_unions


class Form(msgspec.Struct, frozen=True):
    """How one field of an action is written and read.

    Attributes:
        name: the field's name in the entry.
        attribute: its name in the class.
        text: whether it is written as it is, by the function that packer and reader are called with.
        write: value to bytes, ValueError with the reason. Nothing, for a field with a default, is left out.
        read: bytes to value, ValueError with the reason.
        default: the default, or NODEFAULT.
        factory: the function that makes the default, or NODEFAULT.
        lenient: whether a missing required field reads as "".
    """

    name: str
    attribute: str
    text: bool
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    default: Any
    factory: Any
    lenient: bool

    @property
    def required(self) -> bool:
        return self.default is msgspec.NODEFAULT and self.factory is msgspec.NODEFAULT

    def is_default(self, value: object) -> bool:
        if self.required:
            return False
        default = self.default if self.factory is msgspec.NODEFAULT else self.factory()
        return value is default or (type(value) is type(default) and bool(value == default))


def _thing_ids_octets(thing_ids: list[str]) -> bytes:
    if not isinstance(thing_ids, list | tuple):
        raise ValueError(f"it must be a list of str, not {type(thing_ids).__name__}")
    written = [values.octets(thing_id) for thing_id in thing_ids]
    if any(b"," in thing_id for thing_id in written):
        raise ValueError("an ID holds a comma, which separates the IDs on the wire")
    if written == [b""]:
        raise ValueError("a single empty ID cannot be told from none on the wire")
    return b",".join(written)


def _thing_ids_of(octets: bytes) -> list[str] | None:
    return values.text_of(octets).split(",") if octets else None


def _config_octets(config: object) -> bytes:
    written = values.json_octets(config)
    if values.config_of(written) != config:
        raise ValueError("it is not a ProfileConfig whose members have the declared types")
    return written


# The fields of the platform's actions that are no plain text, as the reference writes and reads them.
_PLATFORM_FORMS: Final[dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]]] = {
    "metadata": (values.object_octets, values.object_of),
    "config": (_config_octets, values.config_of),
    "thing_ids": (_thing_ids_octets, _thing_ids_of),
}


def _json_form(annotation: Any) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    decode = msgspec.json.Decoder(annotation).decode

    def read(octets: bytes) -> Any:
        return values.json_of(octets, decode)

    def write(value: Any) -> bytes:
        written = values.json_octets(value)
        try:
            back = read(written)
        except ValueError as error:
            hint = "; NaN and infinities are null in JSON" if "got `null`" in str(error) else ""
            raise ValueError(f"{error}{hint}") from None
        if back != value:
            values.refuse_lossy(value, back)
        return written

    return write, read


def _text_form(annotation: Any) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """Of a str with constraints (`Annotated[str, msgspec.Meta(…)]`), which hold in both directions."""

    def checked(text: str) -> str:
        try:
            return cast(str, msgspec.convert(text, annotation))
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None

    def write(text: str) -> bytes:
        written = values.octets(text)
        checked(values.text_of(written))
        return written

    def read(octets: bytes) -> str:
        return checked(values.text_of(octets))

    return write, read


def _form(action: type[Action], field: msgspec.structs.FieldInfo) -> Form:
    where = f"action {action.__name__}, field {field.name!r}"
    lenient = action in PLATFORM_ACTIONS
    alternatives = alternatives_of(field.type)
    text = field.type in (str, str | None)
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    if text:
        write, read = values.octets, values.text_of
    elif lenient:
        write, read = _PLATFORM_FORMS[field.name]
    elif str in alternatives and all(each in (str, type(None)) for each in alternatives):
        write, read = _text_form(field.type)
    else:
        try:
            write, read = _json_form(field.type)
        except TypeError as error:
            raise ConfigError(f"{where}: msgspec cannot read its type from JSON: {error}") from None
    return Form(
        field.encode_name, field.name, text, write, read, field.default, field.default_factory, lenient
    )


def forms_of(action: type[Action]) -> tuple[Form, ...]:
    """Those of all fields of a class.

    Raises:
        ConfigError: a field is of a type that cannot be written or read.
    """
    refuse_unions(action)
    try:
        fields = msgspec.structs.fields(action)
    except (NameError, AttributeError) as error:
        raise ConfigError(f"action {action.__name__}: the type of a field is not known: {error}") from None
    return tuple(_form(action, field) for field in fields)
