"""Waiting for what other tasks bring about."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

Value = TypeVar("Value")

_BETWEEN: Final = 0.002  # seconds between two looks


@overload
async def wait_for(
    condition: Callable[[], Awaitable[Value]], timeout: float = 5.0, *, what: str | Callable[[], str] = ""
) -> Value: ...


@overload
async def wait_for(
    condition: Callable[[], Value], timeout: float = 5.0, *, what: str | Callable[[], str] = ""
) -> Value: ...


async def wait_for(
    condition: Callable[[], Any], timeout: float = 5.0, *, what: str | Callable[[], str] = ""
) -> Any:
    """Wait until ``condition()``, or what it awaits to, is true, and give that.

    - ``timeout``: seconds, also for a condition that awaits something which does not come.
    - ``what``: what is waited for, or a function that says it in the end; without, the source of the condition.

    Raises ``AssertionError``, with what was waited for and what the condition gave last. What the condition raises
    goes through.
    """
    last = "nothing yet"
    bound = asyncio.timeout(timeout)
    try:
        async with bound:
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                last = repr(value)
                await asyncio.sleep(_BETWEEN)
    except TimeoutError:
        if not bound.expired():
            raise
    said = what() if callable(what) else what
    raise AssertionError(
        f"not within {timeout:g} s: {said or _source(condition)}\nwhat there was last: {last}"
    )


def _source(condition: Callable[[], object]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)
