"""Everything this package raises of its own.

    EventsError
    ├── ConfigError (also a ValueError)      an argument or an action class that cannot work
    │   ├── EmptyStream
    │   └── EmptyName
    ├── EncodeError                          an event that cannot be written; nothing was enqueued
    ├── DecodeError                          an entry that cannot be read
    ├── NotStarted                           used before start()
    ├── PublisherClosed                      used after aclose() began, or the background task died
    ├── BufferFull                           not accepted: overflow="raise"
    ├── Undelivered                          accepted, and then dropped or given up
    ├── AccessRefused                        the server refuses the password or the rights
    ├── CursorCorrupt                        the stored cursor is not the ID of an entry
    ├── SubscriberBusy                       exclusive=True, and the name is being read already
    ├── LeaseLost                            another subscriber of the name reads now, and this one may not
    ├── AlreadyHandled                       a transaction of this event was committed before
    ├── StreamGap                            on_gap="raise": entries were removed before they were read
    ├── StreamReset                          on_gap="raise": the stream was deleted, recreated or restored
    ├── DeliveredTooOften                    why an entry of a group is not handed out any more; reported, not raised
    ├── HandlerFailed                        run(on_failure="raise") met an event that no attempt handled
    └── DeadLetterLimitReached               too many entries would have been dead-lettered in too short a time

A message says what was wrong, where, and what to do about it. None holds a password or a payload.
"""

from .common import (
    AccessRefused,
    ConfigError,
    DecodeError,
    EmptyName,
    EmptyStream,
    EncodeError,
    EventsError,
    NotStarted,
)
from .publishing import BufferFull, PublisherClosed, Undelivered
from .subscribing import (
    AlreadyHandled,
    CursorCorrupt,
    DeadLetterLimitReached,
    DeliveredTooOften,
    HandlerFailed,
    LeaseLost,
    StreamGap,
    StreamReset,
    SubscriberBusy,
)

__all__ = [
    "AccessRefused",
    "AlreadyHandled",
    "BufferFull",
    "ConfigError",
    "CursorCorrupt",
    "DeadLetterLimitReached",
    "DecodeError",
    "DeliveredTooOften",
    "EmptyName",
    "EmptyStream",
    "EncodeError",
    "EventsError",
    "HandlerFailed",
    "LeaseLost",
    "NotStarted",
    "PublisherClosed",
    "StreamGap",
    "StreamReset",
    "SubscriberBusy",
    "Undelivered",
]

# Of this module, whichever file they are in: so they are pickled, and so dead letters have been naming them.
for _name in __all__:
    globals()[_name].__module__ = __name__
