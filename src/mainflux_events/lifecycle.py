"""What publishers and subscribers have in common: begun once, on one event loop, and closed within a bound."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import anyio


class Lifecycle(ABC):
    """`async with`, on top of `start` and `aclose`. Enter and exit may happen in different tasks."""

    @abstractmethod
    async def start(self) -> None:
        """Begin."""

    @abstractmethod
    async def aclose(self) -> None:
        """End."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A cancelled scope of anyio would cut every wait short; closing has a bound of its own.
        with anyio.CancelScope(shield=True):
            await self.aclose()
