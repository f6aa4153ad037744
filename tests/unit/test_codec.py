"""Actions of one's own: which form each field has in an entry, and what comes back."""

from __future__ import annotations

import enum
import math
import types
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar

import msgspec
import pytest

from mainflux_events.actions import ThingCreated, ThingRemoved
from mainflux_events.codec import codec_for, codec_of
from mainflux_events.errors import ConfigError, DecodeError, EncodeError
from mainflux_events.events import Action, Identity
from mainflux_events.resp import Append
from mainflux_events.wire import decode, encode, fields_of

HEADS = Append("s", None)
ENVELOPE = {b"operation", b"evt_org_id", b"evt_group_id", b"occurred_at"}
T = TypeVar("T")
Name = NewType("Name", str)


def written(action: Action) -> dict[bytes, bytes]:
    """The action's own fields, as they are in an entry."""
    fields = fields_of(HEADS.fields_of(encode(action, HEADS)))
    return {name: value for name, value in fields.items() if name not in ENVELOPE}


def read(operation: str, fields: Mapping[bytes, bytes]) -> Action:
    pairs = {b"operation": operation.encode(), **fields}
    return decode([part for pair in pairs.items() for part in pair], "s", "1-0").action


def one(annotation: Any, **field: Any) -> Any:
    """An action class whose one field `x` is of this type."""
    annotations = {
        "__annotations__": {"x": annotation},
        "__module__": __name__,
        "__qualname__": "One",
        **field,
    }
    return types.new_class("One", (Action,), {"tag": "codec.one"}, lambda body: body.update(annotations))


# --- the form of a field --------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "r"


class Size(enum.StrEnum):
    LARGE = "l"


class Line(msgspec.Struct, frozen=True):
    sku: str
    count: int = 1


class Pair(msgspec.Struct, Generic[T], frozen=True):
    first: T
    second: T


@pytest.mark.parametrize(
    ("annotation", "value", "octets"),
    [
        (str, "a", b"a"),
        (str, "", b""),
        (str, '"1"', b'"1"'),
        (str | None, "null", b"null"),
        (Annotated[str, "a remark"], "a", b"a"),
        (Annotated[str, msgspec.Meta(min_length=1)] | None, "a", b"a"),
        (Name, Name("a"), b"a"),
        (int, 1, b"1"),
        (int, 2**64 + 1, b"18446744073709551617"),
        (bool, True, b"true"),
        (float, 1.5, b"1.5"),
        (int | None, None, b"null"),
        (bytes, b"\xff", b'"/w=="'),
        (Decimal, Decimal("1.50"), b'"1.50"'),
        (uuid.UUID, uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (datetime, datetime(2026, 1, 1, tzinfo=UTC), b'"2026-01-01T00:00:00Z"'),
        (date, date(2026, 1, 1), b'"2026-01-01"'),
        (timedelta, timedelta(seconds=3), b'"PT3S"'),
        (Colour, Colour.RED, b'"r"'),
        (Size, Size.LARGE, b'"l"'),
        (Literal["a", "b"], "a", b'"a"'),
        (Any, "a", b'"a"'),
        (list[str], ["a", "\r\n\0"], rb'["a","\r\n\u0000"]'),
        (tuple[int, ...], (1, 2), b"[1,2]"),
        (frozenset[int], frozenset([1]), b"[1]"),
        (dict[int, str], {1: "a"}, b'{"1":"a"}'),
        (dict[uuid.UUID, int], {uuid.UUID(int=1): 1}, b'{"00000000-0000-0000-0000-000000000001":1}'),
        (Line, Line("a"), b'{"sku":"a","count":1}'),
        (list[Line], [Line("a", 2)], b'[{"sku":"a","count":2}]'),
        (Pair[int], Pair(1, 2), b'{"first":1,"second":2}'),
    ],
)
def test_a_field_in_both_directions(annotation: Any, value: object, octets: bytes) -> None:
    action = one(annotation)(value)
    assert written(action) == {b"x": octets}
    assert read("codec.one", {b"x": octets}) == action


@pytest.mark.parametrize(
    "annotation",
    [str | int, str | list[str], Annotated[str | int, "a remark"], Name | int],
)
def test_a_union_of_str_with_another_type_is_refused(annotation: Any) -> None:
    with pytest.raises(ConfigError, match="action One, field 'x': a union of str"):
        encode(one(annotation)("a"), HEADS)


def test_a_type_that_json_cannot_carry_is_refused() -> None:
    with pytest.raises(ConfigError, match="action One, field 'x'"):
        encode(one(set[list[complex]] | dict[str, int] | Line)(1), HEADS)


def test_a_type_that_is_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="action One: the type of a field is not known: .*Nowhere"):
        encode(one("Nowhere")(1), HEADS)


class Ordered(Action, tag="codec.ordered"):
    lines: list[Later]


class Later(msgspec.Struct):
    sku: str


def test_a_type_may_be_defined_after_the_action() -> None:
    action = Ordered([Later("a")])
    assert read("codec.ordered", written(action)) == action


class Box(Action, Generic[T], tag="codec.box"):
    content: T


class TextBox(Box[str], tag="codec.box.text"):
    pass


def test_a_type_variable_is_what_a_subclass_makes_of_it() -> None:
    assert written(TextBox("a")) == {b"content": b"a"}
    assert written(Box[int](1)) == {b"content": b"1"}


def test_a_constraint_holds_in_both_directions() -> None:
    code = one(Annotated[str, msgspec.Meta(min_length=3)])
    with pytest.raises(EncodeError, match=r"codec.one, field 'x': Expected `str` of length >= 3"):
        encode(code("ab"), HEADS)
    with pytest.raises(DecodeError, match=r"codec.one, field 'x': Expected `str` of length >= 3"):
        read("codec.one", {b"x": b"ab"})


# --- defaults -------------------------------------------------------------------------------------------------------


class Defaults(Action, tag="codec.defaults"):
    text: str = "t"
    number: float = 0.0
    amount: Decimal = Decimal(0)
    lines: list[Line] = []  # noqa: RUF012 - msgspec makes a new one each time
    note: str | None = None
    made: list[int] = msgspec.field(default_factory=lambda: [1])


def test_what_has_its_default_is_left_out() -> None:
    assert written(Defaults()) == {}
    assert written(Defaults("".join(["t"]), 0.0, Decimal("0.00"), [], None, [1])) == {}


def test_what_is_missing_reads_as_its_default() -> None:
    assert read("codec.defaults", {}) == Defaults()


def test_what_equals_the_default_but_is_of_another_type_is_written() -> None:
    assert written(Defaults(number=0)) == {b"number": b"0"}


def test_what_is_empty_but_not_the_default_is_written() -> None:
    action = Defaults(text="", note="", made=[])
    assert written(action) == {b"text": b"", b"note": b"", b"made": b"[]"}
    assert read("codec.defaults", written(action)) == action


def test_each_event_has_a_default_of_its_own() -> None:
    first, second = read("codec.defaults", {}), read("codec.defaults", {})
    assert isinstance(first, Defaults)
    assert isinstance(second, Defaults)
    assert first.lines is not second.lines


def test_a_missing_field_without_a_default_is_an_error() -> None:
    with pytest.raises(DecodeError, match=r"entry 1-0 of 's', codec.ordered, field 'lines': it is missing"):
        read("codec.ordered", {})


def test_a_missing_field_with_a_default_is_not_blamed_for_another() -> None:
    with pytest.raises(DecodeError, match="codec.sparse, field 'count': Expected `int`, got `str`"):
        read("codec.sparse", {b"count": b'"many"'})


class Sparse(Action, tag="codec.sparse"):
    note: str = ""
    count: int = 0


class Keywords(Action, tag="codec.keywords", kw_only=True):
    first: str = "f"
    second: int


class MoreKeywords(Keywords, tag="codec.more"):
    third: str = "x"


def test_fields_may_be_keyword_only() -> None:
    action = MoreKeywords(second=2, third="3")
    assert read("codec.more", written(action)) == action


# --- names ----------------------------------------------------------------------------------------------------------


class Shadowing(Action, tag="codec.shadowing", rename=lambda name: name.rstrip("_")):
    """Names of what stands in the compiled functions, and keywords."""

    id: str
    text: str
    get: str
    value: int
    parts: int
    action: str
    fields: str
    heads: int
    default: str
    S: int
    N0: int
    Action: str
    class_: str
    from_: int
    v: str = ""
    n: int = 0
    D14: int = 0
    __private: int = 0


def test_a_field_may_have_any_name() -> None:
    action = Shadowing("a", "b", "c", 1, 2, "d", "e", 3, "f", 4, 5, "g", "h", 6, "i", 7, 8, 9)
    fields = written(action)
    assert fields[b"class"] == b"h"
    assert fields[b"from"] == b"6"
    assert len(fields) == 18
    assert read("codec.shadowing", fields) == action


class Renamed(Action, tag="codec.renamed", rename="camel"):
    order_id: str
    line_count: int = msgspec.field(default=0, name="Zeilen-Zahl €")


def test_a_renamed_field_has_that_name_in_the_entry() -> None:
    action = Renamed("a", 1)
    assert written(action) == {b"orderId": b"a", "Zeilen-Zahl €".encode(): b"1"}
    assert read("codec.renamed", written(action)) == action


def test_an_error_of_encoding_has_the_attribute_and_one_of_decoding_the_entrys_name() -> None:
    with pytest.raises(EncodeError) as encoding:
        encode(Renamed("a", "b"), HEADS)  # type: ignore[arg-type]
    with pytest.raises(DecodeError) as decoding:
        read("codec.renamed", {})
    assert (encoding.value.field, decoding.value.field) == ("line_count", "orderId")


def test_an_operation_may_hold_anything() -> None:
    class Odd(Action, tag='odd.é"\r\n\0'):
        x: str

    assert read('odd.é"\r\n\0', {b"x": b"1"}) == Odd("1")
    assert written(Odd("1")) == {b"x": b"1"}


# --- what is refused ------------------------------------------------------------------------------------------------


class Holder(msgspec.Struct):
    value: Any


@pytest.mark.parametrize(
    ("annotation", "value", "reason"),
    [
        (int, "1", "Expected `int`, got `str`"),
        (int, True, "Expected `int`, got `bool`"),
        (str, None, "it must be a str, not NoneType"),
        (str | None, None, "it must be a str, not NoneType"),
        (float, math.nan, "NaN and infinities are null in JSON"),
        (float | None, math.inf, "inf: JSON has no such number"),
        (list[float | None], [1.5, math.nan], r"\[1\] is nan"),
        (Any, {"a": {5: 1}}, "a key in a is int, not str"),
        (dict[str, Any], {"a": [{5: 1}]}, r"a key in a\[0\] is int, not str"),
        (Holder, Holder({5: 1}), "a key in value is int, not str"),
        (list[str], ["\udcff"], "lone surrogate"),
        (Any, object(), "type object is unsupported"),
        pytest.param(int, 10**5_000, "digits", id="5,000 digits"),
    ],
)
def test_what_would_not_come_back_is_refused(annotation: Any, value: object, reason: str) -> None:
    with pytest.raises(EncodeError, match=f"^codec.one, field 'x': .*{reason}"):
        encode(one(annotation)(value), HEADS)


def test_keys_of_a_declared_type_are_not_refused_for_another_difference() -> None:
    value = {1: ("a", "b")}
    assert written(one(dict[int, Any])(value)) == {b"x": b'{"1":["a","b"]}'}


def test_a_decimal_may_be_no_number() -> None:
    # Unlike a float: its text survives.
    assert written(one(Decimal)(Decimal("NaN"))) == {b"x": b'"NaN"'}


class Hostile(msgspec.Struct):
    def __ne__(self, _: object) -> bool:
        raise RuntimeError("payload")

    __eq__ = __ne__
    __hash__ = None  # type: ignore[assignment]


def test_an_error_of_a_value_is_told_without_its_words() -> None:
    with pytest.raises(EncodeError, match="RuntimeError was raised") as caught:
        encode(one(Hostile, x=msgspec.field(default_factory=Hostile))(Hostile()), HEADS)
    assert "payload" not in str(caught.value)


class Choosy(Action, tag="codec.choosy"):
    name: str

    def __post_init__(self) -> None:
        if self.name in ("value", "other"):
            raise (ValueError if self.name == "value" else RuntimeError)("payload")


@pytest.mark.parametrize("name", [b"value", b"other"])
def test_what_the_class_refuses_is_an_error_of_decoding(name: bytes) -> None:
    with pytest.raises(DecodeError, match="Choosy cannot be made of these values") as caught:
        read("codec.choosy", {b"name": name})
    assert "payload" not in str(caught.value)


# --- compiled once --------------------------------------------------------------------------------------------------


def test_a_codec_is_compiled_once() -> None:
    assert codec_of(ThingCreated) is codec_of(ThingCreated) is codec_for(b"thing.create")


def test_an_unknown_operation_has_no_codec() -> None:
    assert codec_for(b"thing.bogus") is None
    assert codec_for(b"\xff") is None


def test_a_class_that_is_made_again_is_read_as_it_is_now() -> None:
    first = one(int)
    assert read("codec.one", {b"x": b"1"}) == first(1)
    second = one(str)
    assert read("codec.one", {b"x": b"1"}) == second("1")
    # And what is left of the first is still written.
    assert written(first(1)) == {b"x": b"1"}


@pytest.mark.parametrize("length", [0, 1, 9, 10, 1023, 1024, 5000])
@pytest.mark.parametrize("character", ["x", "é", "\r", "\0"])
def test_a_text_of_any_length_is_packed_with_its_size_in_bytes(length: int, character: str) -> None:
    text = character * length
    packed = encode(ThingRemoved(id=text), Append("s", None))
    octets = text.encode()
    assert b"\r\n$2\r\nid\r\n$%d\r\n%b\r\n$10\r\nevt_org_id\r\n" % (len(octets), octets) in packed


def test_packing_in_characters_and_in_bytes_come_to_the_same() -> None:
    heads, codec = Append("s", 1000), codec_of(ThingCreated)
    action = ThingCreated(id="t", group_id="g", profile_id="p", name="n", metadata={"a": [1.5, None]})
    arguments = (action, Identity("u", "e@x"), "org", "group", b"2026-01-02T03:04:05Z")
    in_bytes = codec.pack(*arguments, heads, str.encode)
    assert codec.pack_text(*arguments, heads.in_text, None) == in_bytes.decode()
    assert in_bytes.startswith(b"*28\r\n$4\r\nXADD\r\n")


class CodecParcels(Action, tag="test.codec.parcels.v2"):
    order_id: str
    parcels: list[str] = msgspec.field(name="packages", default_factory=list)
    carrier: str = "post"


class CodecParcel(Action, tag="test.codec.parcels"):
    order_id: str
    parcel: str

    def upgrade(self) -> CodecParcels:
        if self.parcel == "lost":
            raise LookupError("nobody knows")
        return CodecParcels(self.order_id, [self.parcel])


def entry_of(action: Action) -> list[bytes]:
    heads = Append("s", None)
    return heads.fields_of(encode(action, heads))


def test_an_older_form_is_read_as_the_newer_one() -> None:
    entry = entry_of(CodecParcel("o1", "box"))
    event = decode(entry, "s", "1-0")
    assert event.action == CodecParcels("o1", ["box"])
    assert dict(event.raw)[b"operation"] == b"test.codec.parcels"


def test_a_newer_form_is_read_as_it_is() -> None:
    assert decode(entry_of(CodecParcels("o1", ["a", "b"], "ship"))).action == CodecParcels(
        "o1", ["a", "b"], "ship"
    )


def test_a_field_that_was_added_has_its_default_in_old_entries() -> None:
    old = [b"operation", b"test.codec.parcels.v2", b"order_id", b"o1"]
    assert decode(old).action == CodecParcels("o1", [], "post")


def test_a_field_that_was_renamed_keeps_its_name_in_the_entries() -> None:
    assert b"packages" in entry_of(CodecParcels("o1", ["a"]))
    assert b"parcels" not in entry_of(CodecParcels("o1", ["a"]))


@pytest.mark.parametrize("upgrade", [lambda self: None, lambda self: 1 / 0])
def test_an_upgrade_that_fails_is_a_decode_error(upgrade: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CodecParcel, "upgrade", upgrade)
    with pytest.raises(DecodeError, match=r"CodecParcel cannot be made of these values, or its upgrade\(\)"):
        decode(entry_of(CodecParcel("o1", "box")))
