"""The dashboard and the alert rules in docs/, held against the metrics that there are.

`nox -s alerts` has promtool check and try the rules, and check the dashboard's expressions.
"""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from mainflux_events import Publisher, Subscriber
from mainflux_events.contrib.prometheus import EventsCollector

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "observability"

METRIC = re.compile(r"\bmainflux_events_\w+")
DURATION = re.compile(r"\d+[smhd]")


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """The names of all series that a scrape may show, those of lags too."""
    registry = CollectorRegistry()
    collector = EventsCollector(registry)
    collector.add(Publisher("redis://nowhere", "things"))
    collector.add(Subscriber("redis://nowhere", "things", "audit"))
    return {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    assert set(document) == {"groups"}
    assert all(set(group) == {"name", "rules"} for group in document["groups"])
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found = json.loads((FOLDER / "grafana.json").read_text())
    assert isinstance(found, dict)
    return found


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


# ---- alert rules


def test_each_rule_has_what_prometheus_and_an_operator_need(rules: list[dict[str, Any]]) -> None:
    names = [rule["alert"] for rule in rules]
    assert len(names) == len(set(names)) > 0
    for rule in rules:
        assert {"alert", "expr", "labels", "annotations"} <= set(rule) <= {
            "alert", "expr", "for", "labels", "annotations",
        }  # fmt: skip
        assert re.fullmatch(r"MainfluxEvents[A-Z]\w+", rule["alert"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert all(isinstance(text, str) and text for text in rule["annotations"].values())
        assert DURATION.fullmatch(rule.get("for", "1m"))
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_rules_speak_of_metrics_that_there_are(rules: list[dict[str, Any]], metrics: set[str]) -> None:
    for rule in rules:
        found = set(METRIC.findall(rule["expr"]))
        assert found, rule["alert"]
        assert found <= metrics, rule["alert"]


def test_each_rule_is_tried(rules: list[dict[str, Any]]) -> None:
    tried = (FOLDER / "alerts_test.yml").read_text()
    assert {rule["alert"] for rule in rules} == set(re.findall(r'alertname="(\w+)"', tried))


def test_the_lines_of_the_log_that_rules_point_to_are_listed(rules: list[dict[str, Any]]) -> None:
    _, _, log = (DOCS / "observability.md").read_text().partition("\n## The log\n")
    named = {
        name
        for rule in rules
        for name in re.findall(r"\b[a-z]+_[a-z_]+\b", rule["annotations"]["description"])
    } - {"max_len"}
    assert named
    assert {name for name in named if f"| `{name}` |" not in log} == set()


# ---- the dashboard


def test_the_dashboard_speaks_of_metrics_that_there_are_and_of_all_of_them(
    dashboard: dict[str, Any], metrics: set[str]
) -> None:
    found = {name for expression in expressions(dashboard) for name in METRIC.findall(expression)}
    assert found == metrics


def test_its_panels_are_told_apart_and_lie_beside_each_other(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    boxes = [panel["gridPos"] for panel in panels]
    assert all(box["x"] >= 0 and box["x"] + box["w"] <= 24 for box in boxes)
    for one, other in combinations(boxes, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_its_panels_say_what_they_show_and_use_variables_that_there_are(dashboard: dict[str, Any]) -> None:
    variables = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"])))
    assert used <= variables
    assert {"stream", "subscriber", "datasource"} <= used


def test_the_page_lists_each_metric(metrics: set[str]) -> None:
    _, _, page = (DOCS / "observability.md").read_text().partition("\n## Prometheus\n")
    listed = set(re.findall(r"^\| `(mainflux_events_\w+)` \|", page.partition("\n## ")[0], re.MULTILINE))
    assert listed == metrics
