"""Entries as lines of JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events.cli.copying.lines import BadLine, Entry, entry_of, line_of

OCTETS = st.binary(max_size=20) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))


@given(st.lists(OCTETS, min_size=2, max_size=8).filter(lambda fields: len(fields) % 2 == 0))
def test_whatever_the_bytes_are_they_come_back(fields: list[bytes]) -> None:
    entry = Entry("mainflux.things", "1526919030474-55", tuple(fields))
    line = line_of(entry)
    assert line.count(b"\n") == 1
    assert entry_of(line, 1) == entry


def test_text_is_text_and_what_is_no_utf_8_is_base64() -> None:
    line = line_of(Entry("things", "1-0", (b"name", "Küche".encode(), b"name", b"\xff")))
    assert json.loads(line) == {
        "stream": "things",
        "id": "1-0",
        "fields": [["name", "Küche"], ["name", {"base64": "/w=="}]],
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"geheim", "no JSON"),
        (b'{"stream":"s","id":"1-0","fields":[["geheim","v"]', "no JSON"),
        (b'{"stream":"s","id":"1-0"}', "`fields`"),
        (b'{"stream":"s","id":"geheim","fields":[["a","b"]]}', "ID"),
        (b'{"stream":"s","id":"1-0","fields":[]}', "no fields"),
        (b'{"stream":"s","id":"1-0","fields":[["geheim"]]}', "length 2"),
        (b'{"stream":"s","id":"1-0","fields":[["a",{"base64":"geheim!"}]]}', "base64"),
        (b'{"stream":"s","id":"1-0","fields":[["a","\xff"]]}', "UTF-8"),
        (b'{"other":' + b"[" * 100_000, "no JSON"),
        (b'{"stream":"s","id":"1-0","fields":[["a",{"geheim":1}]]}', "`base64`"),
    ],
)
def test_what_is_no_entry_is_refused_by_its_number_and_not_repeated(line: bytes, reason: str) -> None:
    with pytest.raises(BadLine) as refused:
        entry_of(line, 7)
    assert str(refused.value).startswith("line 7: ")
    assert reason in str(refused.value)
    assert "geheim" not in str(refused.value)
