"""What the library asks of a server, read from its source: the commands, and the Lua scripts with inputs for each."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import mainflux_events
from mainflux_events import deadletters

PACKAGE = Path(mainflux_events.__file__).parent
# What is asked of a server for a test, or by an operator.
FOREIGN = ("testing", "cli")
CONTAINERS = ("CLIENT", "CLUSTER", "CONFIG", "OBJECT", "SCRIPT", "XGROUP", "XINFO")

_PACKERS = {"command", "_command", "bulks"}
_IN_LUA = re.compile(r"(?:call\(|\{)'([A-Z]+)'(?:, '([A-Z]+)')?")


def commands() -> list[str]:
    """The names of the commands, also of those in scripts; with the subcommand, where there are such."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in FOREIGN:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _name(node.func) in _PACKERS:
                found.update(_command([_word(argument) for argument in node.args[:2]]))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                for words in _IN_LUA.findall(node.value):
                    found.update(_command(words))
    return sorted(found)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _word(argument: ast.expr) -> str:
    value = argument.value if isinstance(argument, ast.Constant) else ""
    return value if isinstance(value, str) else ""


def _command(words: list[str] | tuple[str, ...]) -> Iterator[str]:
    name, sub, *_ = (*words, "", "")
    if re.fullmatch("[A-Z]{3,}", name):
        yield f"{name} {sub}" if name in CONTAINERS else name


# --- scripts --------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call of a script; `append` where it is a step that goes with a dead letter; what is stored before it."""

    keys: list[str]
    arguments: list[str | int]
    append: bool = False
    stored: str | None = None


def scripts() -> dict[str, str]:
    """The scripts by the names that they have in the source."""
    found = {}
    for module in pkgutil.iter_modules([str(PACKAGE)]):
        if module.name in FOREIGN or module.name.startswith("__"):
            continue
        names = vars(importlib.import_module(f"mainflux_events.{module.name}"))
        for name, value in names.items():
            if isinstance(value, str) and re.search(r"redis\.p?call\(", value):
                found[f"{module.name}.{name}"] = value
    return {name: text for name, text in found.items() if name not in PARTS}


# What only becomes a script together with something else.
PARTS = {"moves._MOVE", "deadletters._APPEND"}

# What the tests put on both servers: a stream with a group, and a string.
STREAM, GROUP, STRING, OTHER = "s", "g", "c", "o"
CONSUMERS = ["one", "two", "given-back"]
IDS = [f"{number}-{number % 3}" for number in range(1, 13)]
CURSORS = [*IDS, "", "0-0", "18446744073709551615-1", "18446744073709551614-1", "x", "1-1-1", "007-1"]
SEQUENCES = ["1 1 0", "1 2 5 5-1+5", "2 3 10", "3", "x 1 1", ""]
MANY = 10_000


def _cursor(random: Random) -> Call:
    fence = random.random() < 0.3
    arguments: list[str | int] = [random.choice(CURSORS), random.choice(IDS)]
    return Call([STRING, *[OTHER] * fence], arguments + ["token"] * fence)


def _step(random: Random) -> Call:
    return Call(*_cursor(random)[:2], append=True)


def _lease(random: Random) -> Call:
    return Call([STRING], [random.choice([*CURSORS, "mine"]), random.choice([0, 50_000])])


def _renewed(random: Random) -> Call:
    most = random.choice([MANY, 1])
    return Call([STREAM], [GROUP, random.choice(CONSUMERS), most, *random.sample(IDS, 4)])


def _left(random: Random) -> Call:
    counts = [word for id in random.sample(IDS, 3) for word in (id, random.randrange(4))]
    return Call([STREAM], [GROUP, random.choice(CONSUMERS), MANY, "given-back", 3_600_000, *counts])


def _appended(random: Random) -> Call:
    events: list[str | int] = []
    for _ in range(random.randrange(1, 5)):
        fields = random.choice([2, 4, 2, 3])
        events += [fields, *["field"] * fields]
    place, stored = random.choice([("1 2 5", "1 2 5 5-1+5"), ("2 3 10", "2 3 10"), ("2 3 10", "2 4 10")])
    return Call([STREAM, STRING], [place, 50_000, 5, *events], stored=stored)


def _moved(random: Random) -> Call:
    return Call([STREAM, OTHER], [word for id in random.sample(IDS, 3) for word in (id, 2)])


INPUTS: dict[str, Callable[[Random], Call]] = {
    "moves.COMMIT_SCRIPT": _cursor,
    "moves.QUIET_SCRIPT": _cursor,
    "moves._STEP": _step,
    "groups._RENEW": _renewed,
    "groups._COUNT": lambda random: Call(
        [STREAM], [GROUP, random.choice(CONSUMERS), random.choice(IDS), random.randrange(5)]
    ),
    "groups._LEAVE": _left,
    "groups._SWEEP": lambda random: Call([STREAM], [GROUP, random.choice([-1, 3_600_000])]),
    "groups._DISMISS": lambda random: Call([STREAM], [GROUP, random.choice(IDS)], append=True),
    "idempotent.CLAIM_SCRIPT": lambda random: Call(
        [STRING], [random.randrange(4), 50_000, random.randrange(2)]
    ),
    "idempotent.APPEND_SCRIPT": _appended,
    "lease.ACQUIRE_SCRIPT": _lease,
    "lease.RENEW_SCRIPT": _lease,
    "lease.CHECK_SCRIPT": _lease,
    "redriving._MOVE": _moved,
    # Always the same member: which of several comes first is a question of time.
    "shares.ATTEND_SCRIPT": lambda random: Call(["members"], ["one", random.choice([1, 50_000])]),
    "redriving._SETTLE": lambda random: Call([STREAM, STRING], [random.choice(IDS)]),
}


def anything(text: str, random: Random) -> Call:
    """Inputs for a script of which nothing is known but how many keys it looks at."""
    keys = max(map(int, re.findall(r"KEYS\[(\d)\]", text)), default=1)
    words = [*CURSORS, *SEQUENCES, GROUP, *CONSUMERS, *range(4)]
    return Call(random.choices([STREAM, STRING, OTHER], k=keys), random.choices(words, k=random.randrange(8)))


def inputs(name: str, text: str, random: Random) -> list[list[str | int]]:
    """What is sent to run a script once."""
    make = INPUTS.get(name)
    call = anything(text, random) if make is None else make(random)
    keys, arguments = call.keys, call.arguments
    if call.append:
        text = deadletters._APPEND % (len(arguments) + 1) + text
        keys, arguments = [*keys, "dead"], [*arguments, "MAXLEN", "~", 5, "*", "field", "value"]
    before: list[list[str | int]] = [] if call.stored is None else [["SET", STRING, call.stored]]
    return [*before, ["EVAL", text, len(keys), *keys, *arguments]]
