"""Which entries become events: decoding, and passing over what is unknown, not asked for, or not to be read."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Final, Literal, get_args

from . import wire
from .answers import sound
from .codec import codec_of
from .entries import Entries, Entry
from .errors import ConfigError, DecodeError, EventsError
from .events import Action, Event, UnknownAction, action_classes
from .hooks import Observers, SkippedDetails, logger
from .resp import pairs_of
from .values import text_of

OnUnknown = Literal["skip", "yield"]

# So many unknown operations are warned of, each once, and so much of their names is shown: they are whatever somebody
# has appended.
MOST_WARNINGS: Final = 1000
SHOWN: Final = 100


class Sieve:
    """Turns entries into events.

    Args:
        actions: the classes to decode; None means all that are known.
        on_unknown: what becomes of an operation that no class is known for.
        observers: who is told of what is passed over.
        dead_letters: whether there is a place for entries that do not decode; otherwise they are given up.

    Attributes:
        skipped: entries of operations that are unknown, or that were not asked for.
        given_up: entries that do not decode, or were refused, and were passed over.

    Raises:
        ConfigError: an argument is something else.
    """

    def __init__(
        self,
        actions: Iterable[type[Action]] | None,
        on_unknown: OnUnknown,
        observers: Observers,
        dead_letters: bool = False,
    ) -> None:
        if on_unknown not in get_args(OnUnknown):
            raise ConfigError(f"on_unknown: 'skip' or 'yield' is wanted, not {on_unknown!r}")
        self._wanted = None if actions is None else _operations(actions)
        self._on_unknown = on_unknown
        self._observers = observers
        self._dead_letters = dead_letters
        self._warned: set[str] = set()
        self.skipped: int = 0
        self.given_up: int = 0

    def sift(
        self, stream: str, entries: Entries
    ) -> tuple[int, list[Event], EventsError | None, Sequence[int]]:
        """Decode entries, up to the next that cannot be handed out and has to be reported.

        Args:
            stream: the stream they are from.
            entries: IDs and fields.

        Returns:
            How many entries were passed over at first, which was counted and reported; the events behind them, or why
            the one behind them does not decode, where it is to be dead-lettered; and for each of these, how many of
            the entries are done with when it is: those that were not asked for and follow it are.
        """
        chosen = entries
        places: Sequence[int] = range(len(entries.ids) + 1)
        if self._wanted is not None:
            places = self._asked_for(entries, self._wanted)
            chosen = Entries.of(entries[place] for place in places)
            places.append(len(entries))
        first, unreadable = 0, None
        events = wire.decode_plain(chosen, stream)
        try:
            for id, fields in chosen if not events else ():
                event = self._event(stream, id, fields)
                if event is not None:
                    events = [event, *wire.decode_plain(chosen[first + 1 :], stream)]
                    break
                first += 1
        except EventsError as error:
            unreadable = error
        behind = first + (len(events) if unreadable is None else 1)
        self.skipped += places[behind] - behind
        return places[first], events, unreadable, places[first + 1 : behind + 1]

    def _asked_for(self, entries: Iterable[Entry], wanted: Container[bytes]) -> list[int]:
        """The places of the entries that are not passed over unseen."""
        operations = enumerate(wire.operations_of(entries))
        if self._on_unknown == "skip":
            return [place for place, operation in operations if operation in wanted]
        known = action_classes()
        return [place for place, operation in operations if operation in wanted or operation not in known]

    def refuse(self, stream: str, entries: Entries, error: EventsError) -> tuple[int, EventsError | None]:
        """Give up entries, unless they are to be dead-lettered.

        Args:
            stream: the stream they are from.
            entries: IDs and fields.
            error: why.

        Returns:
            How many were given up, which was counted and reported; or why the first is to be dead-lettered.
        """
        if self._dead_letters:
            return 0, error
        for id, fields in entries:
            self._give_up(stream, id.decode(), fields, error)
        return len(entries), None

    def _give_up(self, stream: str, id: str, fields: list[bytes], error: EventsError) -> None:
        self.given_up += 1
        logger.error("event_given_up: entry %s of %r: %s", id, stream, error)
        self._report(stream, id, fields, text_of(wire.operation_of(fields) or b""), str(error))

    def _event(self, stream: str, id: bytes, fields: list[bytes]) -> Event | None:
        """The event of an entry; None where the entry is passed over, which was counted and reported.

        Raises:
            EventsError: it does not decode, and there are dead letters.
        """
        if not sound(fields):
            error = DecodeError("", "", "its fields are no names and values", stream, id.decode())
            self._give_up(stream, id.decode(), [], error)  # there is nothing that could be a dead letter
            return None
        entry_id = id.decode()
        try:
            event = wire.decode(fields, stream, entry_id)
        except (DecodeError, ConfigError) as error:
            # A ConfigError, where the class of the operation is one that cannot be read at all.
            if self._dead_letters:
                raise
            self._give_up(stream, entry_id, fields, error)
            return None
        if type(event.action) is UnknownAction and self._on_unknown == "skip":
            self.skipped += 1
            self._skip_unknown(stream, entry_id, fields, event.action.operation)
            return None
        return event

    def _skip_unknown(self, stream: str, id: str, fields: list[bytes], operation: str) -> None:
        shown = operation[:SHOWN]
        if shown not in self._warned and len(self._warned) < MOST_WARNINGS:
            self._warned.add(shown)
            logger.warning(
                "operation_unknown: entries of the operation %r are skipped: define or import its Action class, or "
                'subscribe with on_unknown="yield"',
                shown,
            )
        self._report(stream, id, fields, operation, "no class is known for its operation")

    def _report(self, stream: str, id: str, fields: list[bytes], operation: str, reason: str) -> None:
        if self._observers:
            pairs = pairs_of(fields)
            self._observers.notify("skipped", SkippedDetails(stream, id, operation, reason, pairs))


def _operations(actions: Iterable[type[Action]]) -> frozenset[bytes]:
    if isinstance(actions, type) or not isinstance(actions, Iterable):
        raise ConfigError(f"actions: several classes are wanted, such as [ThingCreated], not {actions!r}")
    classes = tuple(actions)
    for action in classes:
        known = isinstance(action, type) and issubclass(action, Action)
        if not known or not isinstance(getattr(action, "operation", None), str):
            raise ConfigError(f"actions: subclasses of Action are wanted, not {action!r}")
        codec_of(action)  # so that a type that cannot be read is told here
    if not classes:
        raise ConfigError("actions: an empty set would pass over everything; None means all")
    return frozenset(action.operation.encode() for action in classes)
