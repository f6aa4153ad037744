"""Domain events on Redis Streams, for asyncio: publish without waiting, consume where you left off."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._version import __version__
from .actions import (
    AUTH_STREAM,
    THINGS_STREAM,
    GroupRemoved,
    OrgCreated,
    OrgRemoved,
    ProfileConfig,
    ProfileCreated,
    ProfileRemoved,
    ProfileUpdated,
    ThingCreated,
    ThingGroupAndProfileUpdated,
    ThingRemoved,
    ThingUpdated,
    Transformer,
)
from .cursor import Lag
from .deadletters import DeadLetter
from .errors import (
    AccessRefused,
    AlreadyHandled,
    BufferFull,
    ConfigError,
    CursorCorrupt,
    DeadLetterLimitReached,
    DecodeError,
    DeliveredTooOften,
    EmptyName,
    EmptyStream,
    EncodeError,
    EventsError,
    HandlerFailed,
    LeaseLost,
    NotStarted,
    PublisherClosed,
    StreamGap,
    StreamReset,
    SubscriberBusy,
    Undelivered,
)
from .events import Action, Event, Identity, UnknownAction, acting_as
from .health import Health, PublisherHealth, SubscriberHealth
from .hooks import Hooks
from .policies import Backoff, Commit, DeadLetterLimit, DeadLetters, Retry
from .publisher import Publisher
from .stats import PublisherStats, SubscriberStats
from .stores import CursorStore, Move
from .subscriber import Subscriber

if _TYPE_CHECKING:
    from .group import GroupSubscriber
    from .letterbox import drop_dead_letters, read_dead_letters
    from .partitioned import PartitionedSubscriber
    from .pending import Pending
    from .redriving import Redriven, redrive

# What not every application uses, and from where it is imported when it is first asked for.
_LATER = {
    "GroupSubscriber": "group",
    "PartitionedSubscriber": "partitioned",
    "Pending": "pending",
    "Redriven": "redriving",
    "drop_dead_letters": "letterbox",
    "read_dead_letters": "letterbox",
    "redrive": "redriving",
}

__all__ = [
    "AUTH_STREAM",
    "THINGS_STREAM",
    "AccessRefused",
    "Action",
    "AlreadyHandled",
    "Backoff",
    "BufferFull",
    "Commit",
    "ConfigError",
    "CursorCorrupt",
    "CursorStore",
    "DeadLetter",
    "DeadLetterLimit",
    "DeadLetterLimitReached",
    "DeadLetters",
    "DecodeError",
    "DeliveredTooOften",
    "EmptyName",
    "EmptyStream",
    "EncodeError",
    "Event",
    "EventsError",
    "GroupRemoved",
    "GroupSubscriber",
    "HandlerFailed",
    "Health",
    "Hooks",
    "Identity",
    "Lag",
    "LeaseLost",
    "Move",
    "NotStarted",
    "OrgCreated",
    "OrgRemoved",
    "PartitionedSubscriber",
    "Pending",
    "ProfileConfig",
    "ProfileCreated",
    "ProfileRemoved",
    "ProfileUpdated",
    "Publisher",
    "PublisherClosed",
    "PublisherHealth",
    "PublisherStats",
    "Redriven",
    "Retry",
    "StreamGap",
    "StreamReset",
    "Subscriber",
    "SubscriberBusy",
    "SubscriberHealth",
    "SubscriberStats",
    "ThingCreated",
    "ThingGroupAndProfileUpdated",
    "ThingRemoved",
    "ThingUpdated",
    "Transformer",
    "Undelivered",
    "UnknownAction",
    "__version__",
    "acting_as",
    "drop_dead_letters",
    "read_dead_letters",
    "redrive",
]


def __getattr__(name: str) -> object:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_import_module(f".{module}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
