"""How places and times are written on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import typer

from mainflux_events.cli.options import parse_duration, parse_when


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("90s", 90),
        ("1.5h", 5400),
        ("10m", 600),
        ("1h30m", 5400),
        ("7d", 7 * 86400),
        ("2w", 14 * 86400),
    ],
)
def test_a_duration_has_units(text: str, seconds: float) -> None:
    assert parse_when(text) == parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["earliest", "new", "1526919030474-55", f"5-{2**64 - 1}"])
def test_ids_and_the_ends_stay_as_they_are(text: str) -> None:
    assert parse_when(text) == text


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-01T00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 12:30:15.250Z", datetime(2026, 1, 1, 12, 30, 15, 250_000, UTC)),
        ("2026-01-01T00:00+01:00", datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_time_has_a_zone(text: str, time: datetime) -> None:
    assert parse_when(text) == time


@pytest.mark.parametrize("text", ["2026-01-01T00:00", "2026-01-01"])
def test_a_time_without_a_zone_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write 2026-01-01T00:00:00Z"):
        parse_when(text)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "10", "-5m", "5m ago", f"5-{2**64}", "9" * 400 + "w", "5-"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is none of"):
        parse_when(text)
