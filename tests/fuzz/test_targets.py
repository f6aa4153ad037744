"""The targets, with the inputs that are kept, and with what hypothesis makes of what breaks protocols."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainflux_events.actions import PLATFORM_ACTIONS

from . import targets
from .targets import BETWEEN, BETWEEN_ENTRIES, TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize(
    ("target", "kept"),
    [(name, path) for name in TARGETS for path in sorted((CORPUS / name).iterdir())],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_what_was_kept(target: str, kept: Path) -> None:
    TARGETS[target](kept.read_bytes())


def test_each_target_has_something_kept() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(any((CORPUS / name).iterdir()) for name in TARGETS)


# --- made up --------------------------------------------------------------------------------------------------------

breaking = st.sampled_from(
    [
        b"",
        b"\r\n",
        b"\0",
        b"$5\r\nhello\r\n",
        b"*1\r\n$8\r\nFLUSHALL\r\n",
        b"\r\n*1\r\n$8\r\nFLUSHALL\r\n",
        b"\xed\xa0\x80",  # a surrogate, as if it were a character
        b"\xc3\xa9",
        b"\xc3",
        b"\xa9",
        b"x" * 1023,
        b"x" * 1024,
        b"a,b",
        b"\xf0\x9f\x98\x80",
    ]
)
octets = st.binary(max_size=12) | breaking


@settings(max_examples=300)
@given(st.lists(st.lists(octets, max_size=3).map(b"".join), min_size=1, max_size=9))
def test_texts(parts: list[bytes]) -> None:
    targets.texts(BETWEEN.join(parts))


operations = st.sampled_from(
    [action.operation.encode() for action in PLATFORM_ACTIONS[:3]]
) | st.sampled_from([b"fuzzed.order", b"not.known", b""])
names = st.sampled_from(
    [b"operation", b"id", b"name", b"count", b"lines", b"metadata", b"config", b"occurred_at"]
)
values = (
    operations
    | octets
    | st.sampled_from([b"1", b"[]", b"{}", b"null", b"2026-06-26T10:11:12Z", b'[{"a":1}]'])
)
entry = st.builds(
    lambda first, rest: BETWEEN.join([b"operation", first, *(part for pair in rest for part in pair)]),
    operations,
    st.lists(st.tuples(names, values), max_size=4),
)


@settings(max_examples=500)
@given(
    st.lists(entry | st.lists(octets, max_size=5).map(BETWEEN.join), min_size=1, max_size=6), st.booleans()
)
def test_entries(made: list[bytes], twice: bool) -> None:
    # Many entries have the names of the one before; then the same way of reading serves both.
    targets.entries(BETWEEN_ENTRIES.join(each for each in made for _ in range(1 + twice)))


fragments = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\",
        b",",
        b":",
        b'"a":',
        b"null",
        b"1e400",
        b"-0",
        b"NaN",
        b"9" * 30,
        rb"\ud800",
        b"\xff",
        b'{"transformer":{"data_filters":[',
        b"9" * 5000,
        b'{"a":' * 300,
        b" ",
        b"1.5e-7",
    ]
)


@settings(max_examples=500)
@given(st.lists(fragments | st.binary(max_size=3), max_size=12))
def test_json(parts: list[bytes]) -> None:
    targets.json(b"".join(parts))


answers = st.sampled_from(
    [
        b"+OK\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b":1\r\n",
        b"-ERR no\r\n",
        b"$3\r\nabc\r\n",
        b"*2\r\n",
        b"*1\r\n" * 20,
        b"%1\r\n",
        b"~1\r\n",
        b">2\r\n",
        b"*999999\r\n",
        b"$99999999\r\n",
        b"(1\r\n",
        b",1.5\r\n",
        b"#t\r\n",
        b"_\r\n",
    ]
)


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=1), st.lists(answers | st.binary(max_size=6), max_size=8))
def test_replies(how: bytes, parts: list[bytes]) -> None:
    targets.replies(how + b"".join(parts))
