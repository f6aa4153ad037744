"""The values of fields: text, times and JSON, to bytes and back, by the rules of the reference.

All functions are pure. What cannot be written raises ValueError with the reason; what cannot be read is None where
the reference reads it as none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate
from time import time_ns
from typing import Any, Final
from uuid import UUID

import msgspec

from .actions import ProfileConfig

# Bounds of one JSON value, the same on both sides. Deeper nesting overflows the stack of decoders; the reference
# reads more, but no metadata that a person wrote comes near.
MAX_JSON_DEPTH: Final = 256
MAX_JSON_BYTES: Final = 16 * 1024 * 1024

_json: Final = msgspec.json.Encoder().encode
_any: Final = msgspec.json.Decoder().decode
_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_moment: Final = msgspec.json.Decoder(datetime).decode


# --- text -----------------------------------------------------------------------------------------------------------


def octets(text: str) -> bytes:
    """The bytes of a text. Lone surrogates that stand for bytes (`surrogateescape`) go out as those bytes."""
    try:
        return str.encode(text)
    except TypeError:
        raise ValueError(f"it must be a str, not {type(text).__name__}") from None
    except UnicodeEncodeError:
        pass
    try:
        written = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"it holds a lone surrogate, {text[error.start]!r}, which is no character") from None
    if text_of(written) != text:
        raise ValueError("its lone surrogates stand for bytes that would come back as another text")
    return written


def text_of(octets: bytes) -> str:
    """The text of bytes. Bytes that are not UTF-8 become lone surrogates."""
    return octets.decode("utf-8", "surrogateescape")


# --- time -----------------------------------------------------------------------------------------------------------

# datetime.fromisoformat takes more forms than RFC 3339 has (which, depends on Python); behind this pattern it takes
# just those, and it cuts the fraction after the microseconds.
_RFC3339: Final = re.compile(
    rb"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)


# The forms of nearly all times: in UTC, to the nanosecond at most. One look-up tells them, digits made alike.
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_PLAIN: Final = frozenset(
    b"0000-00-00T00:00:00%bZ" % fraction
    for fraction in (b"", *(b"." + b"0" * digits for digits in range(1, 10)))
)
_MICROSECONDS: Final = len("2026-01-02T03:04:05.123456Z")

# When the second that was written last began, in nanoseconds, and its text: events come many to a second.
_second: tuple[int, bytes] = (0, b"1970-01-01T00:00:00")


def now_octets() -> bytes:
    """The time it is, to the microsecond, as `occurred_at` is written."""
    global _second  # noqa: PLW0603 - one assignment of both, so threads may share it
    now = time_ns()
    begins, text = _second
    fraction = (now - begins) // 1000
    if not 0 <= fraction < 1_000_000:
        begins = now - now % 1_000_000_000
        text = _utc_octets(datetime.fromtimestamp(begins // 1_000_000_000, UTC))[:-1]
        _second = begins, text
        fraction = (now - begins) // 1000
    written = b"%b.%06dZ" % (text, fraction)
    return written if fraction % 10 else _trimmed(written)


def time_octets(moment: datetime) -> bytes:
    """RFC 3339 in UTC, without the trailing zeros of the fraction."""
    if not isinstance(moment, datetime):
        raise ValueError(f"it must be a datetime, not {type(moment).__name__}")
    if moment.tzinfo is not UTC:
        if moment.utcoffset() is None:
            raise ValueError("it has no time zone: use datetime.now(UTC), or .replace(tzinfo=…)")
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            raise ValueError("in UTC it is out of the range of years 1 to 9999") from None
    return _utc_octets(moment)


def _utc_octets(moment: datetime) -> bytes:
    try:
        # Several times as quick as isoformat, which serves subclasses: those msgspec does not take.
        written = _json(moment)[1:-1]
    except TypeError:
        written = moment.isoformat().encode()[:-6] + b"Z"
    return _trimmed(written) if moment.microsecond and written.endswith(b"0Z") else written


def _trimmed(written: bytes) -> bytes:
    """A time with a fraction without the fraction's trailing zeros."""
    return written[:-1].rstrip(b"0").rstrip(b".") + b"Z"


def time_of(octets: bytes) -> datetime | None:
    """The time in UTC, cut to the microsecond; none for what is not strict RFC 3339, as the reference has it."""
    # msgspec takes more forms, and rounds what is below a microsecond; of these forms it takes what RFC 3339 does.
    if octets.translate(_DIGITS) in _PLAIN:
        if len(octets) > _MICROSECONDS:
            octets = octets[: _MICROSECONDS - 1] + b"Z"
        try:
            return _moment(b'"%b"' % octets)
        except msgspec.MsgspecError:
            return None
    if _RFC3339.fullmatch(octets) is None:
        return None
    try:
        moment = datetime.fromisoformat(octets.decode())
        return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# --- JSON -----------------------------------------------------------------------------------------------------------


def json_octets(value: object) -> bytes:
    """msgspec's JSON of a value, within the bounds."""
    try:
        written = _json(value)
    except UnicodeEncodeError:
        raise ValueError("it holds a lone surrogate, which JSON cannot carry") from None
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_JSON_DEPTH}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(str(error)) from None
    # What is as short as this is not nested that deep.
    if len(written) > MAX_JSON_DEPTH and (reason := _out_of_bounds(written)):
        raise ValueError(f"its JSON is {reason}")
    return written


def json_of(octets: bytes, decode: Callable[[bytes], Any]) -> Any:
    """A value from JSON by a typed decoder. ValueError with the reason if it is not of that type."""
    if reason := _out_of_bounds(octets):
        raise ValueError(f"its JSON is {reason}")
    try:
        return decode(octets)
    except UnicodeDecodeError:
        raise ValueError("its JSON is not UTF-8") from None
    except msgspec.MsgspecError as error:
        raise ValueError(_without_values(error)) from None
    except Exception as error:
        # The type is the user's, and so is what its __post_init__ raises.
        raise ValueError(f"its type refuses it: {type(error).__name__}") from None


# Those of msgspec's messages that go on with what they met.
_TELLING: Final = re.compile(r"^(Invalid (?:enum )?value|Object contains unknown field)\b.*", re.DOTALL)


def _without_values(error: msgspec.MsgspecError) -> str:
    """What msgspec says of a value, without the value."""
    if error.__cause__ is not None:
        # It holds the words of a __post_init__.
        return f"its type refuses it: {type(error.__cause__).__name__}"
    return _TELLING.sub(r"\1", str(error))


def object_octets(value: dict[str, Any]) -> bytes:
    """JSON of an object whose keys are strings and whose numbers are finite, at any depth."""
    if not isinstance(value, dict):
        raise ValueError(f"it must be a dict, not {type(value).__name__}")
    written = json_octets(value)
    # Reading it back costs no more than a look at the types, and is quicker than a walk in Python.
    if (back := _any(written)) != value:
        refuse_lossy(value, back)
    return written


# Types that msgspec writes as strings: as keys they are none, and a decimal can be NaN.
_AS_STRINGS: Final = (bytes, bytearray, memoryview, datetime, date, time, timedelta, UUID, Decimal)


def refuse_lossy(value: object, back: object) -> None:
    """Raise ValueError if JSON changed in silence what came back of a value: keys, NaN and infinities.

    Other differences are of form, such as a list for a tuple.
    """
    _refuse_lossy(
        msgspec.to_builtins(value, builtin_types=_AS_STRINGS),
        msgspec.to_builtins(back, builtin_types=_AS_STRINGS),
        "",
    )


def _refuse_lossy(value: object, back: Any, path: str) -> None:
    if isinstance(value, dict):
        members = back if isinstance(back, dict) else {}
        for key, member in value.items():
            if not isinstance(key, str) and key not in members:
                raise ValueError(f"a key{path and f' in {path}'} is {type(key).__name__}, not str")
            _refuse_lossy(member, members.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        items = back if isinstance(back, list | tuple) else [None] * len(value)
        for position, (member, item) in enumerate(zip(value, items, strict=False)):
            _refuse_lossy(member, item, f"{path}[{position}]")
    elif (isinstance(value, float) and not _finite(value)) or (
        isinstance(value, Decimal) and not value.is_finite() and not isinstance(back, Decimal)
    ):
        raise ValueError(f"{path and f'{path} is '}{value}: JSON has no such number")


def _finite(number: float) -> bool:
    return number - number == 0


def object_of(octets: bytes) -> dict[str, Any] | None:
    """A JSON object as the reference reads it; none for anything else."""
    if len(octets) > MAX_JSON_DEPTH and _out_of_bounds(octets):
        return None
    try:
        return _object(octets)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        value = _lenient_json(octets)
        return value if isinstance(value, dict) else None


def config_of(octets: bytes) -> ProfileConfig | None:
    """A profile's configuration as the reference reads it: names match without regard to case, null is nothing."""
    value = {} if octets.strip(b" \t\r\n") == b"null" else object_of(octets)
    if value is None:
        return None
    value = _folded(value)
    if isinstance(transformer := value.get("transformer"), dict):
        transformer = value["transformer"] = _folded(transformer)
        if isinstance(filters := transformer.get("data_filters"), list):
            transformer["data_filters"] = ["" if item is None else item for item in filters]
    try:
        return msgspec.convert(value, ProfileConfig)
    except msgspec.ValidationError:
        return None


def _folded(value: dict[str, Any]) -> dict[str, Any]:
    return {name.casefold(): member for name, member in value.items() if member is not None}


def _out_of_bounds(octets: bytes) -> str:
    """Why this JSON is not to be decoded, or nothing. Depth is at most the number of opening brackets."""
    if len(octets) > MAX_JSON_BYTES:
        return f"of {len(octets)} bytes, above the limit of {MAX_JSON_BYTES}"
    if len(octets) > MAX_JSON_DEPTH and octets.count(b"{") + octets.count(b"[") > MAX_JSON_DEPTH:
        brackets = _STRINGS.sub(b"", octets).translate(None, _NO_BRACKETS)
        deepest = max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)
        if deepest > MAX_JSON_DEPTH:
            return f"nested {deepest} deep, above the limit of {MAX_JSON_DEPTH}"
    return ""


# A string ends at its quote or where all ends, and gives nothing back: so it takes time and memory in proportion.
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STEPS: Final = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NO_BRACKETS: Final = bytes(set(range(256)) - set(_STEPS))
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def _lenient_json(octets: bytes) -> Any:
    """JSON with bytes that are not UTF-8 or with lone surrogates, which the reference reads as U+FFFD; else none."""
    try:
        return _scrubbed(json.loads(_SURROGATES.sub("\ufffd", text_of(octets))))
    except (ValueError, RecursionError):
        return None


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {_scrubbed(name): _scrubbed(member) for name, member in value.items()}
    if isinstance(value, float) and not _finite(value):
        raise ValueError("out of range")
    return value
