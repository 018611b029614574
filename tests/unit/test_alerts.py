"""The alert rules, by Prometheus' own tool, and that none is without a test."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.promtool import needs_promtool, promtool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "packaging/prometheus/flare.rules.yml"
TESTS = ROOT / "packaging/prometheus/flare.rules.test.yml"


@needs_promtool
def test_the_rules_are_rules() -> None:
    promtool("check", "rules", str(RULES))


@needs_promtool
def test_each_alert_fires_when_it_should_and_is_silent_else() -> None:
    promtool("test", "rules", str(TESTS))


def test_no_alert_is_without_a_test_and_a_line_in_the_manual() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tests = TESTS.read_text()
    assert re.findall(r"eval_time: 2d, alertname: (\w+)", tests) == alerts, "all are silent while all is well"
    assert re.findall(r"\n        alertname: (\w+)\n        exp_alerts:", tests) == alerts, "each fires once"
    listed = set(re.findall(r"`(Flare\w+)`", (ROOT / "docs/operations.md").read_text()))
    assert listed == set(alerts)


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    documented = set(re.findall(r"`((?:flare|process)_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    expressions = re.sub(r'"[^"]*"', "", RULES.read_text())
    asked = set(re.findall(r"\b(?:flare|process)_\w+", expressions))
    assert {name.removesuffix("_bucket") for name in asked} <= documented
