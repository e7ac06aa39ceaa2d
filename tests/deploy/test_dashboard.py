"""Dashboard and alerts name metrics that exist, with labels they have; Prometheus agrees."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from flywheel.metrics_catalogue import series

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/flywheel.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
RUNBOOK = (DEPLOY.parent / "docs/observability.md").read_text()

OF_PROMETHEUS = {"up": ()}
TARGET = {"job", "instance"}
"""Labels that Prometheus adds to every series."""


def dashboard_queries() -> list[str]:
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [settled(query) for query in found]


def settled(query: str) -> str:
    """Return a query with Grafana's variables as it would send them."""
    return query.replace("$__rate_interval", "1m").replace("$role", ".*")


def selectors(node: Any) -> Iterator[Any]:
    """Every selection of series in a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "vs"):
        inner = getattr(node, name, None)
        if inner is not None and not isinstance(inner, str | int | float):
            yield from selectors(inner)
    for inner in getattr(node, "args", None) or ():
        yield from selectors(inner)


def groupings(query: str) -> set[str]:
    named = re.findall(r"by \(([^)]*)\)", query)
    return {label.strip() for one in named for label in one.split(",")}


QUERIES = [*dashboard_queries(), *(rule["expr"] for rule in ALERTS)]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_that_exist(query: str) -> None:
    known = series() | OF_PROMETHEUS
    asked = list(selectors(promql_parser.parse(query)))
    assert len(asked) == len(re.findall(r"\b(?:flywheel_\w+|process_\w+|up)\b", query))
    had = set(TARGET)
    for one in asked:
        assert one.name in known, one.name
        had |= set(known[one.name])
        matched = {matcher.name for matcher in one.matchers.matchers}
        assert matched <= set(known[one.name]) | TARGET, (one.name, matched)
    assert groupings(query) <= had


def test_the_words_of_legends_and_alerts_are_labels_of_their_queries() -> None:
    told = [
        (settled(target["expr"]), target["legendFormat"], r"{{(\w+)}}")
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    ]
    told += [(r["expr"], r["annotations"]["summary"], r"\$labels\.(\w+)") for r in ALERTS]
    for query, words, pattern in told:
        assert set(re.findall(pattern, words)) <= groupings(query) | TARGET, (query, words)


def test_every_alert_has_its_runbook() -> None:
    anchors = {line[4:].strip().lower() for line in RUNBOOK.splitlines() if line.startswith("### ")}
    for rule in ALERTS:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/observability.md"
        assert anchor in anchors, rule["alert"]
    assert {rule["labels"]["severity"] for rule in ALERTS} == {"critical", "warning"}


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/flywheel.yaml").read_text())
    (datasource,) = source["datasources"]
    assert {p["datasource"]["uid"] for p in panels if p["type"] != "row"} == {datasource["uid"]}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_the_configuration_and_the_alerts_fire_when_they_should() -> None:
    for arguments in (
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ):
        done = subprocess.run(
            ["promtool", *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
