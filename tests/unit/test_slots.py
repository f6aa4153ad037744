"""Keys that have to be in one slot of a cluster."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from mainflux_events.slots import beside, slot

# Few letters, so that braces meet in every way.
keys = st.text("{}a:", min_size=1, max_size=12) | st.text(st.characters(codec="utf-8"), min_size=1)


@given(keys)
@example("foo{}{bar}")  # where the first tag is empty, there is none
@example("foo{{bar}}zap")
def test_a_slot_is_that_of_redis(key: str) -> None:
    assert slot(key) == key_slot(key.encode())


@given(st.text("{}a:", max_size=12))
@example("{things}")
@example("{}things}")
@example("a}b{c")
@example("{{}")
@example("}{")
@example("}")
def test_a_key_beside_another_has_its_slot_and_its_beginning(rest: str) -> None:
    key = "mainflux:cursor:" + rest
    other = beside(key, "mainflux:lease:")
    assert other.startswith("mainflux:lease:")
    assert slot(other) == key_slot(key.encode())


@given(keys, keys)
def test_two_keys_have_two_keys_beside_them(one: str, another: str) -> None:
    prefixed = "mainflux:cursor:" + one, "mainflux:cursor:" + another
    besides = {beside(key, "mainflux:lease:") for key in prefixed}
    assert len(besides) == len(set(prefixed))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("mainflux:cursor:audit:things", "mainflux:lease:{mainflux:cursor:audit:things}"),
        ("mainflux:cursor:audit:{things}", "mainflux:lease:mainflux:cursor:audit:{things}"),
        ("mainflux:cursor:a{b:c}d", "mainflux:lease:mainflux:cursor:a{b:c}d"),
        ("mainflux:cursor:audit:{things", "mainflux:lease:{mainflux:cursor:audit:{things}"),
    ],
)
def test_what_such_a_key_looks_like(key: str, expected: str) -> None:
    assert beside(key, "mainflux:lease:") == expected


def test_a_name_that_no_tag_can_hold_follows_a_number() -> None:
    head, _, tail = beside("mainflux:cursor:audit:thi}ngs", "mainflux:lease:").partition("}:")
    assert head.removeprefix("mainflux:lease:{").isdecimal()
    assert tail == "mainflux:cursor:audit:thi}ngs"
