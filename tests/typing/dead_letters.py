"""Dead letters, for type checkers only: nothing here is run."""

from __future__ import annotations

from datetime import datetime
from typing import assert_type

from mainflux_events import (
    DeadLetter,
    DeadLetterLimit,
    DeadLetters,
    Event,
    Redriven,
    Retry,
    Subscriber,
    drop_dead_letters,
    read_dead_letters,
    redrive,
)

URL = "redis://localhost"


async def handle(event: Event) -> None: ...


def settings() -> None:
    Subscriber(URL, "things", "audit", dead_letter="dead")
    Subscriber(
        URL, "things", "audit", dead_letter=DeadLetters("dead", limit=DeadLetterLimit(5, 1.5), max_len=10)
    )
    Subscriber(URL, "things", "audit", dead_letter=True)  # type: ignore[arg-type]
    DeadLetters("dead", limit=None)
    DeadLetters("dead", limit=5)  # type: ignore[arg-type]
    Retry(attempts=3, initial=1, maximum=5, on=(OSError, TimeoutError))
    Retry(on=OSError)  # type: ignore[arg-type]


async def afterwards() -> None:
    async for letter in read_dead_letters(URL, "dead", ids=["5-1"]):
        assert_type(letter, DeadLetter)
        assert_type(letter.event(), Event)
        assert_type(letter.time, datetime | None)
    assert_type(await redrive(URL, "dead", where=lambda letter: letter.attempts > 1), Redriven)
    await redrive(URL, "dead", to=handle)
    await redrive(URL, "dead", to=print)
    await redrive(URL, "dead", to=5)  # type: ignore[arg-type]
    assert_type(await drop_dead_letters(URL, "dead"), int)
