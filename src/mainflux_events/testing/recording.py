"""Recorders: what a subscriber handled, and what was reported to hooks."""

from __future__ import annotations

import inspect
from typing import Any

from ..dispatch import BatchHandler, Handler
from ..events import Action, Event
from ..hooks import Hooks
from .waiting import wait_for

__all__ = ["EventRecorder", "HookRecorder"]


class EventRecorder:
    """A handler for ``run`` that keeps what it was given.

    - ``handler``: one of your own, which is called first. What it raises goes through, and that event is not kept.

    ``events`` are those that were handled, in the order in which their calls ended, also of calls with a batch.
    """

    def __init__(self, handler: Handler | BatchHandler | None = None) -> None:
        self._handler = handler
        self.events: list[Event] = []

    async def __call__(self, event: Any) -> None:
        if self._handler is not None:
            result = self._handler(event)
            if inspect.isawaitable(result):
                await result
        self.events += event if isinstance(event, list) else [event]

    @property
    def actions(self) -> list[Action]:
        """The actions of the events."""
        return [event.action for event in self.events]

    async def wait_for(self, count: int, timeout: float = 5.0) -> list[Event]:
        """Wait until so many were handled, ``timeout`` seconds at most, and give all that were.

        Raises ``AssertionError`` with the actions that were.
        """
        await wait_for(
            lambda: len(self.events) >= count,
            timeout,
            what=lambda: f"{count} handled events; there are {self.actions}",
        )
        return self.events


class HookRecorder(Hooks):
    """Hooks that keep everything that is reported, for ``hooks=``.

    ``seen`` are the names of the hooks with their details, in order.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def of(self, hook: str) -> list[Any]:
        """The details that one hook was given, in order."""
        if hook not in _HOOKS:
            raise ValueError(f"there is no hook {hook!r}; there are {', '.join(_HOOKS)}")
        return [details for name, details in self.seen if name == hook]

    async def wait_for(self, hook: str, count: int = 1, timeout: float = 5.0) -> list[Any]:
        """Wait until a hook was called so often, ``timeout`` seconds at most, and give its details.

        Raises ``AssertionError`` with what was reported.
        """
        await wait_for(
            lambda: len(self.of(hook)) >= count,
            timeout,
            what=lambda: f"{hook!r}, {count} times; there are {self.seen}",
        )
        return self.of(hook)


def _note(hook: str) -> Any:
    def note(self: HookRecorder, details: Any) -> None:
        self.seen.append((hook, details))

    return note


_HOOKS = [name for name in vars(Hooks) if not name.startswith("_")]
for _hook in _HOOKS:
    setattr(HookRecorder, _hook, _note(_hook))
