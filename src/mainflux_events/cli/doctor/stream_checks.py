"""Streams, those who read them, and rights, judged. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ...gaps import Extent, number
from ..behind import Behind
from ..output import show_count, show_seconds
from .findings import Finding, fail, ok, unknown, warn

# How much of what a stream keeps a reader may be behind.
FAR: Final = 0.5

# Seconds that the IDs of a stream may be ahead of the clock.
AHEAD: Final = 1.0

_LARGEST: Final = 2**64 - 1


def check_stream(stream: str, extent: Extent | None, kind: str, now_ms: int | None) -> Finding:
    """Whether a stream is there, and how much it keeps.

    Args:
        stream: its key.
        extent: what is there; None where that may not be asked.
        kind: the type of the key, "" where that may not be asked.
        now_ms: the server's time, in milliseconds; None where that may not be asked.
    """
    check = f"stream {stream}"
    if kind not in ("", "none", "stream"):
        return fail(
            check, f"the key holds a {kind}", "choose another key for the stream, or remove what is there"
        )
    if extent is None:
        return unknown(check, f"+xinfo on {stream!r}")
    if extent.last == (0, 0):
        return warn(check, "there is none", "nothing was ever published to it, or the name is another one")
    if now_ms is not None and (extent.last[0] - now_ms) / 1000 > AHEAD:
        ahead = show_seconds((extent.last[0] - now_ms) / 1000)
        return warn(
            check, f"its last ID is {ahead} ahead of the server's clock",
            "until then, times and lag that follow from IDs are wrong: the clock was set back, or somebody chose IDs",
        )  # fmt: skip
    if extent.first is None:
        return ok(check, "empty at the moment")
    span = show_seconds((extent.last[0] - extent.first[0]) / 1000)
    removed = "" if not extent.removed else f"; {show_count(extent.removed)} older ones were removed"
    return ok(check, f"{show_count(extent.length)} entries over {span}{removed}")


def check_reader(behind: Behind, extent: Extent) -> Finding:
    """Whether what somebody has yet to read will still be there.

    Args:
        behind: how far it is behind.
        extent: what is there of the stream.
    """
    check = f"{behind.kind} {behind.name} of {behind.stream}"
    if behind.trouble:
        return fail(
            check,
            f"its position: {behind.trouble}",
            f"`mainflux-events seek` sets it{_because(behind.trouble)}",
        )
    if behind.position is None or extent.first is None:
        return ok(check, "nothing is behind it")
    at, entries = number(behind.position), _entries(behind)
    if at >= extent.last:
        return ok(check, f"up to date{_pending(behind)}")
    trimmed = extent.removed is None or extent.removed > 0
    if at < extent.first and trimmed and at != (0, 0):
        return fail(
            check, f"{entries} behind, and what it would read next may have been removed",
            "it tells how many are missing when it reads on: handle faster, or keep more (`max_len` of the publishers)",
        )  # fmt: skip
    share = _share(at, extent)
    found = f"{entries} behind, {share:.0%} of what the stream keeps{_pending(behind)}"
    if trimmed and share > FAR:
        return warn(
            check, found, "before long, entries are removed that it has not read: see that it runs, handle faster, or "
            "keep more (`max_len` of the publishers)",
        )  # fmt: skip
    return ok(check, found)


def _share(at: tuple[int, int], extent: Extent) -> float:
    """How much of what is kept is behind a place, in time."""
    assert extent.first is not None
    span = extent.last[0] - extent.first[0]
    return min(1.0, (extent.last[0] - at[0]) / span) if span else 1.0


def _entries(behind: Behind) -> str:
    if behind.entries is not None:
        return f"{show_count(behind.entries)} entries"
    return f"{show_seconds(behind.seconds)}" if behind.at_least is None else f"{behind.at_least:,}+ entries"


def _pending(behind: Behind) -> str:
    return f", {show_count(behind.pending)} pending" if behind.pending else ""


def _because(trouble: str) -> str:
    return "; the stream was recreated, or restored to what it once was" if "ahead" in trouble else ""


class Trial(msgspec.Struct, frozen=True):
    """What a user needs for something, tried.

    Attributes:
        what: what it is needed for.
        missing: the commands that are refused.
        rights: all that is needed, for the advice.
    """

    what: str
    missing: Sequence[str]
    rights: str


def check_rights(trials: Sequence[tuple[str, Trial]]) -> list[Finding]:
    """What the user may do with streams: something, at least."""
    able = any(not trial.missing for _, trial in trials)
    return [_right(stream, trial, able=able) for stream, trial in trials]


def _right(stream: str, trial: Trial, *, able: bool) -> Finding:
    check = f"rights to {trial.what}"
    if not trial.missing:
        return ok(check, f"all that is needed on {stream!r}")
    found = f"the user may not run {', '.join(trial.missing)} for {stream!r}"
    advice = f"if it is to {trial.what}, give it {trial.rights}"
    return (warn if able else fail)(check, found, advice)
