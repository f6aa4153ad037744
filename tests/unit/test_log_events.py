"""Every line of the log has a stable name, and docs/observability.md lists all of them."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mainflux_events
from mainflux_events.hooks import logger

SOURCES = sorted(Path(mainflux_events.__file__).parent.rglob("*.py"))
PAGE = Path(__file__).parents[2] / "docs" / "observability.md"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def calls(source: str) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))


def lines_written(source: str) -> Iterator[tuple[str, str]]:
    """The first argument and the level of each call of the logger."""
    for call in calls(source):
        match call.func:
            case ast.Attribute(value=ast.Name(id="logger"), attr=level) if level in LEVELS | {"log"}:
                match call.args:
                    case [ast.Constant(value=str(text)), *_]:
                        yield text, "error" if level == "exception" else level
                    case _:
                        raise AssertionError(f"a line of the log without a plain text: {ast.unparse(call)}")


def lines_for(source: str) -> set[str]:
    """What connections are for: the first word of what a `Line` logs."""
    return {
        keyword.value.value
        for call in calls(source)
        if isinstance(call.func, ast.Name) and call.func.id == "Line"
        for keyword in call.keywords
        if keyword.arg == "what"
        if isinstance(keyword.value, ast.Constant)
    }


def names_of(text: str, whats: set[str]) -> set[str]:
    """The names that a line may have."""
    found = re.match(r"((?:%s|[a-z])(?:%s|[a-z_])*): ", text)
    assert found, f"a line of the log without a name: {text!r}"
    name = found[1]
    if name.startswith("stream_%s"):
        return {"stream_gap", "stream_reset"}
    return {name.replace("%s", what) for what in whats} if "%s" in name else {name}


def written() -> set[tuple[str, str]]:
    sources = [path.read_text() for path in SOURCES]
    whats = set().union(*map(lines_for, sources))
    return {
        (name, level)
        for source in sources
        for text, level in lines_written(source)
        for name in names_of(text, whats)
    }


def listed() -> set[tuple[str, str]]:
    _, _, rest = PAGE.read_text().partition("\n## The log\n")
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", rest.partition("\n## ")[0], re.MULTILINE)
    return {(name, level.strip()) for name, levels in rows for level in levels.split(",")}


def test_the_page_lists_each_name_and_its_levels_and_nothing_else() -> None:
    assert written() == listed()


def test_nothing_is_logged_but_by_the_one_logger() -> None:
    others = [
        f"{path.name}: {ast.unparse(call)}"
        for path in SOURCES
        for call in calls(path.read_text())
        if ast.unparse(call.func) in {f"logging.{level}" for level in LEVELS} | {"logging.getLogger"}
    ]
    assert others == ["hooks.py: logging.getLogger('mainflux_events')"]


def test_the_search_finds_the_lines_of_a_source() -> None:
    source = 'if True:\n    logger.warning("%s_retrying: %r", what, 1)\nlogger.exception("hook_failed: x")'
    assert set(lines_written(source)) == {("%s_retrying: %r", "warning"), ("hook_failed: x", "error")}
    assert lines_for('Line(link, "key", what="read")') == {"read"}
    assert names_of("%s_retrying: %r", {"read", "append"}) == {"read_retrying", "append_retrying"}
    with pytest.raises(AssertionError, match="without a name"):
        names_of("something happened", set())
    with pytest.raises(AssertionError, match="without a plain text"):
        list(lines_written('logger.info(f"read_retrying: {1}")'))


def test_each_record_has_the_name_as_an_attribute(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mainflux_events"):
        logger.info("%s_reconnected: %r, %s", "read", "things", "redis at host: 1")
    [record] = caplog.records
    assert record.event_name == "read_reconnected"  # type: ignore[attr-defined]
