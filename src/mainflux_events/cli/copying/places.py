"""Where a range ends. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import typer

from ...cursor import parse_id
from ..options import When

_LARGEST: Final = 2**64 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def resolve_end(until: When, last_id: str, now: datetime) -> str:
    """The ID of the last entry of a range.

    Args:
        until: as it was given.
        last_id: the last ID that the stream has given.
        now: the time, for a duration back from it.

    Raises:
        typer.BadParameter: nothing can be before it.
    """
    if until == "new":
        return last_id
    if isinstance(until, str) and parse_id(until) is not None:
        return until
    if isinstance(until, str):
        raise typer.BadParameter("nothing is before the earliest entry", param_hint="--until")
    since_epoch = now - _EPOCH - until if isinstance(until, timedelta) else until - _EPOCH
    return f"{max(0, since_epoch // timedelta(milliseconds=1))}-{_LARGEST}"
