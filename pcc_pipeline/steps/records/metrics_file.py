"""The metrics of a look at the champion for Prometheus, in a file that node_exporter's textfile collector reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import get_args

from pcc_pipeline.alerting.book import AlertBook
from pcc_pipeline.config import Params
from pcc_pipeline.config.alert_settings import Level
from pcc_pipeline.monitoring.prometheus_text import exposition
from pcc_pipeline.storage.objects import replacing


def write_metrics(params: Params, version: str, metrics: Mapping[str, float], now: datetime) -> None:
    """Write `output.metrics_file` whole: the metrics, the alerts that stand by level, and when this was.

    Args:
        version: the champion's.
        metrics: as MLflow names them.

    Raises:
        StorageError: it cannot be written, or the book of alerts cannot be read.
    """
    name = params.registry.model_name
    levels = Counter(alert.level for alert in AlertBook(Path(params.output.alerts_dir)).alerts if alert.subject == name)
    labels = {"model": name, "version": version}
    text = exposition(
        {
            **metrics,
            "monitor/timestamp_seconds": now.timestamp(),
            **{f"monitor/alerts/{level}": float(levels[level]) for level in get_args(Level)},
        },
        labels,
    )
    # The collector takes every file that ends in .prom, half-written ones too.
    with replacing(Path(str(params.output.metrics_file)), shared=True, suffix="") as partial:
        partial.write_text(text, encoding="utf-8")
