"""The shape of the package, read from its imports: one way, from the shell to the core.

Imports of types alone count too: what a module speaks of, it depends on.
"""

from __future__ import annotations

import ast
import importlib.util
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "mainflux_events"
MAXIMUM_LINES = 400

# From the core to the shell. A part may import what stands on its own line or above; "" is the package itself.
LAYERS = [
    ["_version", "entries", "errors", "resp", "stats", "slots", "gate", "health", "turns", "sizing"],
    ["events"],
    ["actions"],
    ["values"],
    ["forms"],
    ["codec"],
    ["wire"],
    ["buffer", "policies", "hooks", "refusals", "deadletters"],
    ["channel", "tracing", "inmemory"],
    ["link"],
    ["answers", "nodes"],
    ["moves"],
    ["cursor", "batch", "ledger", "line", "lease", "partitions", "shares"],
    ["idempotent", "gaps", "notices"],
    ["schema", "lifecycle", "drain", "attach", "sieve", "tasks", "dispatch", "letterbox", "holding"],
    ["keeper", "lane"],
    ["inbox"],
    ["intake"],
    ["window"],
    ["iteration", "keeping", "taken", "reader", "writer", "groups", "tenure", "desk"],
    ["posting", "pending", "stores", "sharing"],
    ["commits", "storing"],
    ["acks", "tenancy"],
    ["standing", "service"],
    ["join", "claims", "checkup"],
    ["stepping", "workers"],
    ["consumer"],
    ["publisher", "subscriber", "partitioned", "group", "redriving"],
    [""],
    ["contrib", "testing", "cli", "__main__"],
]
RANKS = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
NOBODY_IMPORTS = {"contrib", "cli"}
ONLY_IN = {
    "redis": {"link", "testing", "cli"},
    "hiredis": {"channel", "testing", "cli"},
    "tenacity": {"policies"},
    "fakeredis": {"testing"},
    "opentelemetry": {"contrib"},
    "prometheus_client": {"contrib"},
}


def part_of(module: str) -> str:
    """The part of the package that a module belongs to: ``testing`` for ``mainflux_events.testing.server``."""
    return module.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]


def imports(module: str, source: str, modules: set[str], *, package: bool = False) -> set[str]:
    """The full names of the modules that a source imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: len(module.split(".")) - node.level + package]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                # `from . import wire` is about a module, `from .wire import encode` about what is in it.
                full = f"{base}.{alias.name}"
                found.add(full if full in modules else base)
    return found


def complaints(sources: dict[str, str]) -> list[str]:
    """What is wrong with the imports of a package, given as the source of each of its modules."""
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    packages = {module.rpartition(".")[0] for module in sources} | {PACKAGE}
    for module, source in sources.items():
        part = part_of(module)
        if part not in RANKS:
            found.append(f"{module} is not in the table: add {part!r} to LAYERS, where it belongs")
            continue
        for name in imports(module, source, set(sources), package=module in packages):
            top = name.partition(".")[0]
            if top != PACKAGE:
                if part not in ONLY_IN.get(top, {part}):
                    found.append(f"{module} imports {top}, which only {', '.join(sorted(ONLY_IN[top]))} may")
                continue
            other = part_of(name)
            if other == part:
                continue
            graph.setdefault(part, set()).add(other)
            if RANKS.get(other, -1) > RANKS[part]:
                found.append(f"{module} imports {name}, which stands above it")
            if other in NOBODY_IMPORTS and part != "__main__":
                found.append(f"{module} imports {name}, which nobody inside may")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"a circle of imports: {' -> '.join(error.args[1])}")
    return found


@pytest.fixture(scope="module")
def installed() -> dict[str, str]:
    """The source of every module of the installed package, by its full name."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(next(iter(spec.submodule_search_locations)))
    return {
        ".".join([PACKAGE, *path.relative_to(root).with_suffix("").parts]).removesuffix(
            ".__init__"
        ): path.read_text()
        for path in root.rglob("*.py")
    }


def test_imports_run_one_way(installed: dict[str, str]) -> None:
    assert f"{PACKAGE}.testing.server" in installed
    found = complaints(installed)
    assert not found, "\n".join(found)


def test_no_module_is_too_long(installed: dict[str, str]) -> None:
    lengths = {module: len(source.splitlines()) for module, source in installed.items()}
    assert {module: lines for module, lines in lengths.items() if lines > MAXIMUM_LINES} == {}


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("errors", "from .wire import encode", "stands above"),
        ("errors", "from . import wire", "stands above"),
        ("errors", "import mainflux_events.wire", "stands above"),
        ("errors", "from mainflux_events import wire", "stands above"),
        ("errors", "def late():\n    from mainflux_events.wire import encode", "stands above"),
        ("publisher", "from mainflux_events import Publisher", "stands above"),
        ("publisher", "from . import testing", "stands above"),
        ("publisher", "from .testing.server import RedisServer", "stands above"),
        ("testing.server", "from ..cli import main", "nobody inside may"),
        ("testing.server", "from .. import contrib", "nobody inside may"),
        ("publisher", "import redis.asyncio", "imports redis, which only"),
        ("publisher", "from redis.asyncio import Redis", "imports redis, which only"),
        ("cursor", "from hiredis import Reader", "imports hiredis, which only"),
        ("link", "import tenacity", "imports tenacity, which only policies may"),
        ("wire", "from . import wire", None),
        ("channel", "import hiredis", None),
        ("link", "import redis", None),
        ("subscriber", "from .dispatch import x", None),
        ("testing.server", "from ..publisher import Publisher", None),
        ("testing.server", "from .. import Publisher", None),
        ("testing.server", "import redis, asyncio", None),
        ("cli", "from .commands import x\nfrom ..testing import redis_server", None),
        ("new", "", "add 'new' to LAYERS"),
    ],
)
def test_the_check_sees(module: str, source: str, complaint: str | None) -> None:
    others = [
        "",
        "wire",
        "dispatch",
        "testing",
        "testing.server",
        "cli",
        "cli.commands",
        "contrib",
        "publisher",
    ]
    sources = {f"{PACKAGE}.{name}".removesuffix("."): "" for name in others}
    found = complaints({**sources, f"{PACKAGE}.{module}": source})
    if complaint is None:
        assert found == []
    else:
        assert any(complaint in each for each in found), found


def test_the_check_sees_a_circle_within_a_layer() -> None:
    modules = {"publisher": "from .subscriber import x", "subscriber": "from . import publisher"}
    found = complaints({f"{PACKAGE}.{name}": source for name, source in modules.items()})
    assert found
    assert "a circle of imports" in found[0]
