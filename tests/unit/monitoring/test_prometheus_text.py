"""The file for Prometheus is in its text format, whatever stands in names and labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pcc_pipeline.monitoring.prometheus_text import exposition

DASHBOARD = Path(__file__).parents[3] / "deploy/grafana/dashboards/monitoring.json"
# The grammar of https://prometheus.io/docs/instrumenting/exposition_formats/
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)\{{({_LABEL}(?:,{_LABEL})*)\}} (\S+)")


def test_every_line_is_of_the_grammar_and_each_metric_is_described_once_before_its_samples() -> None:
    strange = 'a "quoted" \\ label\nin two lines, ü'
    text = exposition(
        {
            "drift/p_value": 0.25,
            f"observed/class/{strange}/f1": 0.5,
            "observed/class/other/f1": 1.0,
            "quality/missing/urgency_score": 0.1,
            "quality/usual/missing/urgency_score": 0.0,
            "drift/alarm": float("nan"),
            "operation/rows": 1e9,
            "observed/pr-auc": 0.125,
        },
        {"model": "pcc", "version": "v20260101_000000"},
    )
    assert text.endswith("\n")
    described: list[str] = []
    read: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            described.append(line.split()[2])
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {described[-1]} gauge"
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample is not None, line
            assert sample[1] == described[-1]
            read[sample[1], sample[2]] = float(sample[3])
    assert len(described) == len(set(described))
    common = 'model="pcc",version="v20260101_000000"'
    assert read == {
        ("pcc_drift_p_value", common): 0.25,
        ("pcc_observed_class_f1", rf'{common},label="a \"quoted\" \\ label\nin two lines, ü"'): 0.5,
        ("pcc_observed_class_f1", f'{common},label="other"'): 1.0,
        ("pcc_observed_pr_auc", common): 0.125,
        ("pcc_operation_rows", common): 1e9,
        ("pcc_quality_missing", f'{common},column="urgency_score"'): 0.1,
        ("pcc_quality_usual_missing", f'{common},column="urgency_score"'): 0.0,
    }


def test_the_dashboard_s_panels_have_their_own_places_and_ask_prometheus() -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    assert (dashboard["uid"], dashboard["id"]) == ("pcc-watch", None)
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
    for panel in panels:
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all('model="$model"' in target["expr"] for target in panel["targets"])
