"""How far a copy is: what is stored, and what it says of what was sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer

from mainflux_events import ConfigError
from mainflux_events.cli.copying.lines import Entry
from mainflux_events.cli.copying.places import resolve_end
from mainflux_events.cli.copying.position import Position, appended, position_key
from mainflux_events.slots import slot

ENTRIES = [Entry("things", f"{number}-0", (b"a", b"b")) for number in (4, 5, 6)]
BEHIND = Position(3, "3-0", "what it is")


def test_what_is_stored_comes_back() -> None:
    position = Position(12, "1526919030474-55", "redis at localhost:6379, database 0 mainflux.things")
    assert Position.of(position.stored()) == position


@pytest.mark.parametrize(
    "stored", [b"", b"1-0", b"1", b"x 1-0 what", b"-1 1-0 what", b"1 garbage what", b"\xff"]
)
def test_what_is_no_position_is_seen(stored: bytes) -> None:
    assert Position.of(stored) is None


@pytest.mark.parametrize(
    ("found", "count"),
    [
        (BEHIND, 0),
        (Position(4, "4-0", "what it is"), 1),
        (Position(6, "6-0", "what it is"), 3),
        (Position(7, "7-0", "what it is"), None),  # further than what was sent
        (Position(2, "2-0", "what it is"), None),  # moved back
        (Position(4, "9-0", "what it is"), None),  # another entry
        (Position(4, "4-0", "something else"), None),
        (None, None),
    ],
)
def test_the_position_tells_how_many_of_those_that_were_sent_are_appended(
    found: Position | None, count: int | None
) -> None:
    assert appended(BEHIND, found, ENTRIES, "what it is") == count


@pytest.mark.parametrize("target", ["things", "{things}", "{things}:copy", "thi}ngs"])
def test_the_key_is_in_the_slot_of_the_target(target: str) -> None:
    key = position_key("mirror", "name", target)
    assert key.startswith("mainflux:mirror:name:")
    assert slot(key) == slot(target)


@pytest.mark.parametrize("name", ["a:b", "a{b", "a}b", "a b"])
def test_a_name_that_would_make_the_key_ambiguous_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        position_key("mirror", name, "things")


NOW = datetime(1970, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("until", "end"),
    [
        ("new", "7-7"),
        ("5-5", "5-5"),
        (datetime(1970, 1, 1, 0, 0, 1, 500, tzinfo=UTC), f"1000-{2**64 - 1}"),
        (timedelta(days=1), f"0-{2**64 - 1}"),
        (timedelta(days=9), f"0-{2**64 - 1}"),
    ],
)
def test_where_a_range_ends(until: str | datetime | timedelta, end: str) -> None:
    assert resolve_end(until, "7-7", NOW) == end


def test_a_range_cannot_end_before_the_earliest_entry() -> None:
    with pytest.raises(typer.BadParameter, match="earliest"):
        resolve_end("earliest", "7-7", NOW)
