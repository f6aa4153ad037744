"""Entries as they were read: what is taken off, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from mainflux_events.entries import Entries

PAIRS = [(b"%d-0" % number, [b"a", b"%d" % number]) for number in range(5)]


def test_entries_are_had_in_their_order_by_place_and_in_parts() -> None:
    entries = Entries.of(PAIRS)
    assert len(entries) == 5
    assert [*entries] == PAIRS
    assert (entries[0], entries[-1]) == (PAIRS[0], PAIRS[-1])
    assert [*entries[1:3]] == PAIRS[1:3]
    assert entries
    assert not entries[5:]


def test_a_part_is_not_touched_by_what_is_taken_off() -> None:
    entries = Entries.of(PAIRS)
    part = entries[:3]
    entries.take_off(2)
    assert [*entries] == PAIRS[2:]
    assert [*part] == PAIRS[:3]


def test_what_is_not_wanted_is_removed() -> None:
    entries = Entries.of(PAIRS)
    entries.keep(lambda id: id in (b"1-0", b"4-0"))
    assert [*entries] == [PAIRS[1], PAIRS[4]]


@pytest.mark.parametrize("pairs", [[None], [[b"1-0"]], [[b"1-0", [], []]], [7], 7, None])
def test_what_are_no_pairs_are_no_entries(pairs: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Entries.of(pairs)
