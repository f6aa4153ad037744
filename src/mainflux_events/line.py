"""A connection that is made again when it is needed, with growing waits in between, all of it reported."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from .errors import AccessRefused, ConfigError
from .health import Condition
from .hooks import Observers, ReconnectedDetails, RetryingDetails, logger
from .link import Channel, Disconnected, Unreachable
from .nodes import Way
from .policies import Backoff, Waits
from .refusals import Address, Outlook, Refusal

# What an attempt over a line may end with; `Line.rest` takes all of them.
TROUBLE: Final = (AccessRefused, ConfigError, Unreachable, Disconnected, Refusal)
Trouble = AccessRefused | ConfigError | Unreachable | Disconnected | Refusal

# The longest wait between attempts while the owner closes.
CLOSING_WAIT: Final = 0.25

# The first wait for what is over within moments, in seconds; it grows as the others do.
SOON: Final = 0.1

# The longest wait for a slot: it moves for as long as it takes, and then nobody should have to wait for half a minute.
SLOT_WAIT: Final = 2.0


class Line:
    """One connection to the server that holds a key.

    Args:
        link: where its connections come from.
        key: the key that tells which server.
        stream: what reports name: the stream, or several joined by commas.
        what: what the connection is for: "append", "read", "commit", "dead_letter" or "lease".
        backoff: the waits between attempts.
        patience: seconds that the server may be silent while a reply is due.
        observers: who is told.
        prepare: what is done first on every new connection.
        follows: whether, while the key's slot moves, what it is for is done where the key already is: each exchange
            then has to be one command or transaction.

    Attributes:
        retries: attempts that failed and were, or are to be, made again.
        reconnects: connections after the first one.
        closing: set when the owner closes: waits are short from then on.
    """

    def __init__(
        self,
        link: Way,
        key: str,
        *,
        stream: str,
        what: str,
        backoff: Backoff,
        patience: float,
        observers: Observers,
        prepare: Callable[[Channel], Awaitable[None]] | None = None,
        follows: bool = False,
    ) -> None:
        self._link = link
        self._key = key
        self._stream = stream
        self._what = what
        self._waits = Waits(backoff.initial, backoff.maximum)
        self._soon = Waits(min(SOON, backoff.initial), backoff.maximum)
        self._patience = patience
        self._observers = observers
        self._prepare = prepare
        self._follows = follows
        # Where the next connection is to go, if that is not to the owner of the slot.
        self._target: Address | None = None
        self._channel: Channel | None = None
        self._connected_before = False
        self._proven = False
        # Whether, since the last connection was made, something worked, or was reported and waited for.
        self._fresh_start = False
        self._failures = 0
        # As in `Condition`.
        self._worked: float | None = None
        self._failing: float | None = None
        self._recovered: float | None = None
        self._reason = ""
        self.retries: int = 0
        self.reconnects: int = 0
        self.closing: asyncio.Event = asyncio.Event()

    @property
    def where(self) -> str:
        """The server, for messages."""
        return self._link.where

    @property
    def condition(self) -> Condition:
        """How it does."""
        return Condition(self._what, self._worked, self._failing, self._recovered, self._reason)

    async def channel(self) -> Channel:
        """The connection that stands, or a new one.

        Raises:
            AccessRefused, ConfigError: what will not pass by itself.
            Unreachable, Disconnected, Refusal: what may.
        """
        if self._channel is not None:
            if self._channel.usable:
                return self._channel
            ended = self._channel.reason
            await self.disconnect()
            # One that worked was closed while it was idle: another is made at once.
            if not self._fresh_start:
                raise Unreachable(f"{self.where} ended a connection before it was of use: {ended}")
        target, self._target = self._target, None
        channel = await self._link.open(self._key, self._patience, target)
        try:
            if self._prepare is not None:
                await self._prepare(channel)
        except BaseException:  # a cancellation too: nobody else could end it
            await self._link.release(channel)
            raise
        self._channel = channel
        if self._connected_before:
            self.reconnects += 1
            logger.info("%s_reconnected: %r, %s", self._what, self._stream, self.where)
            self._observers.notify("reconnected", ReconnectedDetails(self._stream, self._what))
        self._connected_before = True
        self._fresh_start = False
        return channel

    async def disconnect(self) -> None:
        """End the connection, if there is one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await self._link.release(channel)

    def worked(self) -> None:
        """An attempt succeeded: whatever trouble there was is over."""
        self._proven = self._fresh_start = True
        self._failures = 0
        self._worked = monotonic()
        if self._failing is not None:
            self._failing, self._recovered = None, self._worked
        self._waits.reset()
        self._soon.reset()

    async def rest(self, trouble: Trouble) -> None:
        """Report a failed attempt, and wait until the next one is due. `closing` ends a long wait."""
        self.retries += 1
        self._failures += 1
        self._reason = str(trouble)
        if self._failing is None:
            self._failing = monotonic()
        self._fresh_start = True
        seconds = await self._prescribed(trouble)
        if self.closing.is_set():
            seconds = min(seconds, CLOSING_WAIT)
        details = RetryingDetails(self._stream, self._what, self._failures, seconds, str(trouble))
        logger.warning(
            "%s_retrying: %r, attempt %d failed, the next in %.2f s: %s",
            self._what,
            self._stream,
            details.attempt,
            seconds,
            trouble,
        )
        self._observers.notify("retrying", details)
        if self.closing.is_set():
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self.closing.wait()
        except TimeoutError:
            pass

    async def _prescribed(self, trouble: Trouble) -> float:
        """What the trouble calls for: to forget a connection or an address, and a wait in seconds."""
        if isinstance(trouble, AccessRefused | ConfigError):
            return self._waits.longest()
        if isinstance(trouble, Refusal):
            return await self._prescribed_by_server(trouble)
        self._link.rediscover()
        # A connection that worked may have been closed while it was idle: the next one is made at once.
        at_once = self._first_since_it_worked() and isinstance(trouble, Disconnected)
        return 0.0 if at_once else self._waits.next()

    async def _prescribed_by_server(self, refusal: Refusal) -> float:
        if refusal.outlook is Outlook.ELSEWHERE:
            self._link.rediscover()
            self._target = refusal.target if self._follows else None
            if self._channel is not None and not refusal.about_slot:
                self._channel.abort(f"the server said: {refusal}")  # also to others who may share it
            await self.disconnect()
            # Whoever has it now is there already, as a rule.
            if refusal.brief and self._first_since_it_worked():
                return 0.0
        if refusal.brief:
            seconds = self._soon.next()
            return min(seconds, SLOT_WAIT) if refusal.about_slot else seconds
        return self._waits.longest() if refusal.outlook is Outlook.LASTING else self._waits.next()

    def _first_since_it_worked(self) -> bool:
        first, self._proven = self._proven, False
        return first
