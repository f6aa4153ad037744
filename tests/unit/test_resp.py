"""Packed commands, read back by hiredis' own parser."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events.resp import SIZES, Append, bulk, bulk_strings, command, size


def parsed(packed: bytes) -> list[bytes]:
    """The one command that these bytes are."""
    reader = hiredis.Reader()
    reader.feed(packed)
    arguments = reader.gets()
    assert isinstance(arguments, list)
    assert reader.gets() is False, "more than one command"
    assert not reader.has_data(), "an unfinished command"
    return arguments


@given(st.lists(st.binary(), min_size=1))
def test_a_command_is_exactly_its_arguments(arguments: list[bytes]) -> None:
    assert parsed(command(*arguments)) == arguments


def test_words_and_numbers_are_written_as_text() -> None:
    assert parsed(command("XREAD", "COUNT", 100, "é")) == [b"XREAD", b"COUNT", b"100", "é".encode()]


@given(st.lists(st.binary(), min_size=1))
def test_bulk_strings_come_back(arguments: list[bytes]) -> None:
    assert bulk_strings(b"".join(map(bulk, arguments))) == arguments


def test_bulk_strings_can_begin_behind_a_head() -> None:
    packed = command(b"a", b"b")
    assert bulk_strings(packed, packed.index(b"$")) == [b"a", b"b"]


@pytest.mark.parametrize("number", [0, 1, len(SIZES) - 1])
def test_small_sizes_are_kept_as_they_are_made(number: int) -> None:
    assert SIZES[number] == size(number) == f"${number}\r\n".encode()


def test_append_trims_about_to_its_maximum() -> None:
    packed = Append("mainflux.things", 100_000)[2] + bulk(b"name") + bulk(b"value")
    assert parsed(packed) == b"XADD mainflux.things MAXLEN ~ 100000 * name value".split()


def test_append_without_a_maximum_does_not_trim() -> None:
    packed = Append("mainflux.things", None)[2] + bulk(b"name") + bulk(b"value")
    assert parsed(packed) == b"XADD mainflux.things * name value".split()


@pytest.mark.parametrize("max_len", [None, 5])
def test_append_gives_the_fields_of_what_it_packed(max_len: int | None) -> None:
    heads = Append("a\r\n$", max_len)
    fields = [b"name", b"\r\n*1\r\n"]
    assert heads.fields_of(heads[2] + b"".join(map(bulk, fields))) == fields


def test_append_makes_a_head_once() -> None:
    heads = Append("s", None)
    assert heads[4] is heads[4]
