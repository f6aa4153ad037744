"""What is found, and how bad that is."""

from __future__ import annotations

from enum import Enum

import msgspec


class Grade(Enum):
    """How bad something is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        check: what was looked at.
        grade: how bad it is; `UNKNOWN` where it could not be looked at.
        found: what it is like.
        advice: what to do; "" where nothing is to be done.
    """

    check: str
    grade: Grade
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(check, Grade.OK, found)


def warn(check: str, found: str, advice: str) -> Finding:
    """It works, and may not for ever."""
    return Finding(check, Grade.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """It does not work, or events are being lost."""
    return Finding(check, Grade.FAIL, found, advice)


def unknown(check: str, right: str) -> Finding:
    """It could not be looked at."""
    return Finding(
        check, Grade.UNKNOWN, "it could not be looked at", f"give the user {right}, or look by another"
    )
