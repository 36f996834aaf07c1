"""Metrics in the text format of Prometheus, as node_exporter's textfile collector takes them.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

# What stands in the name of a metric of MLflow in place of a label's or a column's name.
_WITHIN = {"class": "label", "missing": "column", "alerts": "level"}


def exposition(metrics: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """The file's content: gauges by name, each with what it is.

    `drift/p_value` becomes `pcc_drift_p_value`; what names a label or a column becomes a label of its own:
    `observed/class/opt_out/f1` is `pcc_observed_class_f1{label="opt_out"}`.

    Args:
        metrics: as MLflow names them; what is not finite is left out.
        labels: that all have.
    """
    samples: dict[str, list[str]] = {}
    meanings: dict[str, str] = {}
    for metric, value in metrics.items():
        if not math.isfinite(value):
            continue
        parts, own = metric.split("/"), dict(labels)
        if (place := next((place for place, part in enumerate(parts[:-1]) if part in _WITHIN), None)) is not None:
            key = _WITHIN[parts[place]]
            own[key] = parts.pop(place + 1)
            parts[place] += f"/<{key}>"
        meaning = "/".join(parts)
        name = re.sub(r"\W+", "_", f"pcc/{re.sub('/<.*?>', '', meaning)}", flags=re.ASCII)
        meanings[name] = f"{meaning} of the last monitor."
        own_labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in own.items())
        samples.setdefault(name, []).append(f"{name}{{{own_labels}}} {float(value)!r}")
    lines = [
        line
        for name in sorted(samples)
        for line in (f"# HELP {name} {meanings[name]}", f"# TYPE {name} gauge", *samples[name])
    ]
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
