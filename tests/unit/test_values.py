"""Text, times and JSON: what is written, what is read, and what is refused."""

from __future__ import annotations

import math
import re
import time
import uuid
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events import values
from mainflux_events.actions import ProfileConfig, Transformer

TWO_HOURS = timezone(timedelta(hours=2))

# Any string, with lone surrogates, those that stand for bytes too.
any_text = st.text(st.characters(codec=None) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))


# --- text -----------------------------------------------------------------------------------------------------------


@given(any_text)
def test_a_text_comes_back_or_is_refused(text: str) -> None:
    try:
        octets = values.octets(text)
    except ValueError:
        # Only what no bytes stand for may be refused.
        with pytest.raises(UnicodeEncodeError):
            text.encode()
    else:
        assert values.text_of(octets) == text


@given(st.binary())
def test_bytes_come_back_as_those_bytes(octets: bytes) -> None:
    assert values.octets(values.text_of(octets)) == octets


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_a_surrogate_that_stands_for_no_byte_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        values.octets(text)


def test_surrogates_that_would_come_back_as_a_character_are_refused() -> None:
    with pytest.raises(ValueError, match="come back as another text"):
        values.octets("\udcc3\udca9")


@pytest.mark.parametrize("value", [None, 5, b"x", ["x"]])
def test_only_a_str_is_text(value: Any) -> None:
    with pytest.raises(ValueError, match=f"must be a str, not {type(value).__name__}"):
        values.octets(value)


def test_a_subclass_of_str_is_written_by_its_text() -> None:
    class Loud(str):
        __slots__ = ()

        def __str__(self) -> str:
            return self.upper()

        def encode(self, *_: Any) -> bytes:
            return b"no"

    assert values.octets(Loud("x")) == b"x"


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        (b"2026-06-26T10:11:12Z", datetime(2026, 6, 26, 10, 11, 12, 0, UTC)),
        (b"2026-06-26T10:11:10Z", datetime(2026, 6, 26, 10, 11, 10, 0, UTC)),
        (b"2026-06-26T10:11:10.1Z", datetime(2026, 6, 26, 10, 11, 10, 100_000, UTC)),
        (b"2026-06-26T10:11:12.00001Z", datetime(2026, 6, 26, 10, 11, 12, 10, UTC)),
        (b"2026-06-26T10:11:12.123456Z", datetime(2026, 6, 26, 10, 11, 12, 123_456, UTC)),
        (b"0001-01-01T00:00:00Z", datetime.min.replace(tzinfo=UTC)),
        (b"9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_a_time_in_both_directions(written: bytes, moment: datetime) -> None:
    assert values.time_octets(moment) == written
    assert values.time_of(written) == moment


@given(st.datetimes(timezones=st.just(UTC)))
def test_any_time_comes_back(moment: datetime) -> None:
    read = values.time_of(values.time_octets(moment))
    assert read == moment
    assert read.tzinfo is UTC


def test_a_time_of_another_zone_is_written_in_utc() -> None:
    assert values.time_octets(datetime(2026, 1, 1, 1, tzinfo=TWO_HOURS)) == b"2025-12-31T23:00:00Z"


def test_a_subclass_of_datetime_is_written_too() -> None:
    class Later(datetime):
        pass

    assert values.time_octets(Later(2026, 1, 1, 0, 0, 10, 500, tzinfo=UTC)) == b"2026-01-01T00:00:10.0005Z"
    assert values.time_octets(Later(2026, 1, 1, 2, tzinfo=TWO_HOURS)) == b"2026-01-01T00:00:00Z"


class _Undecided(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


@pytest.mark.parametrize(
    "moment", [datetime.fromisoformat("2026-01-01"), datetime(2026, 1, 1, tzinfo=_Undecided())]
)
def test_a_naive_time_is_refused(moment: datetime) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        values.time_octets(moment)


@pytest.mark.parametrize(
    "moment",
    [datetime.min.replace(tzinfo=TWO_HOURS), datetime.max.replace(tzinfo=timezone(-timedelta(hours=2)))],
)
def test_a_time_that_is_out_of_range_in_utc_is_refused(moment: datetime) -> None:
    with pytest.raises(ValueError, match="out of the range"):
        values.time_octets(moment)


@pytest.mark.parametrize("moment", ["2026-06-26T10:11:12Z", date(2026, 1, 1), 5])
def test_only_a_datetime_is_a_time(moment: Any) -> None:
    with pytest.raises(ValueError, match=f"must be a datetime, not {type(moment).__name__}"):
        values.time_octets(moment)


@pytest.mark.parametrize(
    ("octets", "microsecond"),
    [
        (b"2026-06-26T10:11:12,5Z", 500_000),
        (b"2026-06-26T10:11:12.9999999Z", 999_999),
        (b"2026-06-26T10:11:12.1234567890123Z", 123_456),
        (b"2026-06-26T12:11:12.5+02:00", 500_000),
        (b"2026-06-26T10:11:12.5-00:00", 500_000),
    ],
)
def test_the_forms_of_rfc_3339_are_read(octets: bytes, microsecond: int) -> None:
    assert values.time_of(octets) == datetime(2026, 6, 26, 10, 11, 12, microsecond, UTC)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"yesterday",
        b"1795415808",
        b"2026-06-26T10:11:12",
        b"2026-06-26 10:11:12Z",
        b"2026-06-26t10:11:12z",
        b"2026-06-26T10:11:12+0200",
        b"2026-06-26T10:11:12+02",
        b"2026-06-26T10:11:12.Z",
        b"2026-06-26T10:11Z",
        b"20260626T101112Z",
        b"2026-W26-5T10:11:12Z",
        b"2026-06-26T10:11:12Z\n",
        b" 2026-06-26T10:11:12Z",
        "\uff12026-06-26T10:11:12Z".encode(),
        b"\xff",
        b"2026-02-30T00:00:00Z",
        b"2026-06-26T24:00:00Z",
        b"2026-06-26T10:60:00Z",
        b"2026-06-26T23:59:60Z",
        b"0000-01-01T00:00:00Z",
        b"2026-06-26T10:11:12+24:00",
        b"2026-06-26T10:11:12+01:60",
        b"0001-01-01T00:00:00+00:01",
        b"9999-12-31T23:59:59-00:01",
    ],
)
def test_everything_else_is_no_time(octets: bytes) -> None:
    assert values.time_of(octets) is None


@pytest.mark.parametrize(
    ("nanoseconds", "written"),
    [
        (1_795_415_808_123_456_789, b"2026-11-23T06:36:48.123456Z"),
        (1_795_415_808_123_450_000, b"2026-11-23T06:36:48.12345Z"),
        (1_795_415_808_000_000_999, b"2026-11-23T06:36:48Z"),
        (1_795_415_807_999_999_999, b"2026-11-23T06:36:47.999999Z"),
        (1_795_415_810_000_000_000, b"2026-11-23T06:36:50Z"),
    ],
)
def test_now_is_written_to_the_microsecond(
    monkeypatch: pytest.MonkeyPatch, nanoseconds: int, written: bytes
) -> None:
    monkeypatch.setattr(values, "time_ns", lambda: nanoseconds)
    assert values.now_octets() == written
    # Again, now that the second is known.
    assert values.now_octets() == written


def test_now_follows_the_clock_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10_900_000_000, 11_100_000_000, 10_950_000_000])
    monkeypatch.setattr(values, "time_ns", lambda: next(clock))
    assert [values.now_octets() for _ in range(3)] == [
        b"1970-01-01T00:00:10.9Z",
        b"1970-01-01T00:00:11.1Z",
        b"1970-01-01T00:00:10.95Z",
    ]


def test_now_is_now() -> None:
    before = time.time_ns() // 1000
    now = values.time_of(values.now_octets())
    after = time.time_ns() // 1000
    assert now is not None
    assert before <= (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) <= after


# --- objects of JSON ------------------------------------------------------------------------------------------------


class Part(msgspec.Struct):
    value: Any


finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_an_object_comes_back(value: dict[str, Any]) -> None:
    assert values.object_of(values.object_octets(value)) == value


@pytest.mark.parametrize("number", [2**53 + 1, 2**64 + 1, -(2**63) - 1, 10**30])
def test_an_integer_stays_exact(number: int) -> None:
    assert values.object_of(values.object_octets({"a": number})) == {"a": number}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": math.nan}, "a is nan"),
        ({"a": [{"b": (1, -math.inf)}]}, r"a\[0\].b\[1\] is -inf"),
        ({"a": Decimal("NaN")}, "a is NaN"),
        ({"a": Part(math.inf)}, "a.value is inf"),
        ({"a": None, "b": [None, math.nan]}, r"b\[1\] is nan"),
    ],
)
def test_a_number_that_is_not_finite_is_refused_at_any_depth(value: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError, match=place):
        values.object_octets(value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({5: 1}, "a key is int"),
        ({"a": [{"b": {1.5: 1}}]}, r"a key in a\[0\].b is float"),
        ({"a": {uuid.UUID(int=1): 1}}, "a key in a is UUID"),
        ({"a": Part({date(2026, 1, 1): 1})}, "a key in a.value is date"),
        ({None: 1}, "dicts with str-like"),
        ({(1, 2): 1}, "dicts with str-like"),
    ],
)
def test_a_key_that_is_no_string_is_refused_at_any_depth(value: dict[Any, Any], place: str) -> None:
    with pytest.raises(ValueError, match=place):
        values.object_octets(value)


def test_other_values_are_written_as_msgspec_does() -> None:
    value = {"when": datetime(2026, 1, 1, tzinfo=UTC), "amount": Decimal("1.50"), "pair": (1, 2)}
    assert values.object_octets(value) == (b'{"when":"2026-01-01T00:00:00Z","amount":"1.50","pair":[1,2]}')


@pytest.mark.parametrize("value", [[1], "x", 5, Part({})])
def test_only_a_dict_is_an_object(value: Any) -> None:
    with pytest.raises(ValueError, match="must be a dict"):
        values.object_octets(value)


@pytest.mark.parametrize("value", [{"a": "\ud800"}, {"\udcff": 1}])
def test_json_carries_no_lone_surrogates(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        values.object_octets(value)


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_the_deepest_object_goes_in_both_directions() -> None:
    value = values.object_of(nested(values.MAX_JSON_DEPTH))
    assert value is not None
    assert values.object_octets(value) == nested(values.MAX_JSON_DEPTH)


@pytest.mark.parametrize("depth", [values.MAX_JSON_DEPTH + 1, 2_000, 100_000])
def test_an_object_beyond_the_depth_is_refused(depth: int) -> None:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    with pytest.raises(ValueError, match="deep"):
        values.object_octets(value)
    assert values.object_of(nested(depth)) is None


def test_an_object_that_holds_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["a"] = value
    with pytest.raises(ValueError, match="deep"):
        values.object_octets(value)


def test_brackets_in_strings_are_no_depth() -> None:
    value = {'["{\\': '{["\\' * 1_000}
    assert values.object_of(values.object_octets(value)) == value


def test_an_object_beyond_the_size_is_refused() -> None:
    room = values.MAX_JSON_BYTES - len(b'{"a":""}')
    assert len(values.object_octets({"a": "x" * room})) == values.MAX_JSON_BYTES
    with pytest.raises(ValueError, match=f"above the limit of {values.MAX_JSON_BYTES}"):
        values.object_octets({"a": "x" * (room + 1)})
    assert values.object_of(b'{"a":"' + b"x" * (room + 1) + b'"}') is None


def test_a_string_that_never_ends_is_found_out_in_proportion_to_its_length() -> None:
    # Quadratic, this took minutes.
    assert values.object_of(b"[" * 300 + b'"' + b'\\"' * 200_000) is None


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        (rb'{"a":"\ud800"}', {"a": "\ufffd"}),
        (rb'{"\ud800b":1}', {"\ufffdb": 1}),
        (rb'{"a":["\udcc3\udca9"]}', {"a": ["\ufffd\ufffd"]}),
        (rb'{"a":"\ud83d\ude00\ud83d"}', {"a": "\U0001f600\ufffd"}),
        (b'{"a":"\xff\xe2\x82"}', {"a": "\ufffd\ufffd\ufffd"}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b' {"a" : 1} ', {"a": 1}),
    ],
)
def test_what_the_reference_mends_is_mended(octets: bytes, value: dict[str, Any]) -> None:
    assert values.object_of(octets) == value


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"null",
        b"[{}]",
        b'"x"',
        b"{",
        b"{} x",
        b'{"a":NaN}',
        b'{"a":1e400}',
        b'{"a":-Infinity,"b":"\xff"}',
        b'{"a":1e400,"b":"\xff"}',
        b'{"a":"\x01"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' + b"9" * 5_000 + b"}",
        b"[" * 100_000,
    ],
)
def test_everything_else_is_no_object(octets: bytes) -> None:
    assert values.object_of(octets) is None


@given(st.binary() | st.text().map(str.encode))
def test_reading_never_raises(octets: bytes) -> None:
    values.time_of(octets)
    values.object_of(octets)
    assert values.config_of(octets) is None or octets.strip()


# --- the configuration of a profile ---------------------------------------------------------------------------------

CONFIG = ProfileConfig(
    content_type="x", transformer=Transformer(data_filters=["a", ""], data_field="d"), write_enabled=True
)


@pytest.mark.parametrize(
    ("octets", "config"),
    [
        (b"null", ProfileConfig()),
        (b" null\n", ProfileConfig()),
        (b"{}", ProfileConfig()),
        (b'{"content_type":null,"transformer":null,"write_enabled":null}', ProfileConfig()),
        (b'{"unknown":[1],"transformer":{"unknown":2}}', ProfileConfig()),
        (
            b'{"CONTENT_TYPE":"x","Transformer":{"Data_Filters":["a",null],"DATA_FIELD":"d"},"write_Enabled":true}',
            CONFIG,
        ),
        (b'{"content_type":"\xff"}', ProfileConfig(content_type="\ufffd")),
    ],
)
def test_a_configuration_is_read_as_the_reference_reads_it(octets: bytes, config: ProfileConfig) -> None:
    assert values.config_of(octets) == config


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"[]",
        b"\x0bnull",
        b'{"write_enabled":1}',
        b'{"transformer":5}',
        b'{"transformer":{"data_filters":"x"}}',
        b'{"transformer":{"data_filters":[1]}}',
    ],
)
def test_a_configuration_of_other_types_is_none(octets: bytes) -> None:
    assert values.config_of(octets) is None


# --- typed JSON -----------------------------------------------------------------------------------------------------


class Refusing(msgspec.Struct):
    name: str

    def __post_init__(self) -> None:
        raise {"value": ValueError, "key": KeyError}[self.name](f"payload: {self.name}")


class Tagged(msgspec.Struct, tag="t", forbid_unknown_fields=True):
    number: int = 0


@pytest.mark.parametrize(
    ("octets", "annotation", "reason"),
    [
        (b'"secret"', int, "Expected `int`, got `str`"),
        (b'["secret"]', list[int], "Expected `int`, got `str` - at `$[0]`"),
        (b'"secret - at `$.x`\\n"', Literal["a"], "Invalid enum value"),
        (b'{"type":"secret"}', Tagged, "Invalid value"),
        (b'{"type":"t","secret":1}', Tagged, "Object contains unknown field"),
        (b'{"name":"value"}', Refusing, "its type refuses it: ValueError"),
        (b'{"name":"key"}', Refusing, "its type refuses it: KeyError"),
        (b'"\xff"', str, "its JSON is not UTF-8"),
        (b"[" * 400 + b"]" * 400, Any, "its JSON is nested 400 deep, above the limit of 256"),
        (b"9" * 5_000, int, "Integer value out of range"),
    ],
)
def test_a_reason_says_what_is_wrong_and_never_the_value(octets: bytes, annotation: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        values.json_of(octets, msgspec.json.Decoder(annotation).decode)
