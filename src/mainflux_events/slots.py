"""Slots of a cluster: keys that have to be on one server. Pure."""

from __future__ import annotations

import itertools
from binascii import crc_hqx
from typing import Final

SLOTS: Final = 16384


def slot(key: str) -> int:
    """The slot that a key is in, as `CLUSTER KEYSLOT` has it."""
    return crc_hqx(_hashed(key).encode(), 0) % SLOTS


def beside(key: str, beginning: str) -> str:
    """Another key for this one, in the same slot. No two keys have the same one, unless they begin with a brace.

    Args:
        key: any key but the empty one.
        beginning: what the other one begins with; it holds no brace.
    """
    if _hashed(key) != key:
        return beginning + key  # its first brace is that of the key's own tag
    if "}" not in key:
        return f"{beginning}{{{key}}}"
    # No tag can hold such a key, so it is a number that happens to have its slot.
    wanted = slot(key)
    number = next(number for number in itertools.count() if slot(str(number)) == wanted)
    return f"{beginning}{{{number}}}:{key}"


def _hashed(key: str) -> str:
    """What of a key decides on its slot: what is between the first brace and the next closing one, else all of it."""
    tag, closed, _ = key.partition("{")[2].partition("}")
    return tag if closed and tag else key
