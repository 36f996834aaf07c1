"""`monitor`: a file of messages beside what a version learned: have they changed, and how right is it likely to be."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import in_brief
from pcc_pipeline.data.contract import CASE_ID, TIMESTAMP
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.page.facts import file_name
from pcc_pipeline.evaluation.report import Report
from pcc_pipeline.monitoring.advice import mending
from pcc_pipeline.monitoring.health import WatchedWindow, calm, kinds_of_standing, standing
from pcc_pipeline.monitoring.operation import Log, log_of
from pcc_pipeline.monitoring.profile import ReferenceProfile
from pcc_pipeline.monitoring.windows import windows
from pcc_pipeline.plurals import counted
from pcc_pipeline.sealing.parquet import write_frame
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.steps.inputs.chosen_model import chosen_model
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.own_files import demand_own_files
from pcc_pipeline.steps.inputs.run_logs import read_logs
from pcc_pipeline.steps.pages.monitor_figures import accuracy_by_window, drift_by_window
from pcc_pipeline.steps.pages.monitor_page import (
    PAGE,
    Look,
    file_metrics,
    label_lines,
    monitor_note,
    monitor_page,
    window_metrics,
)
from pcc_pipeline.steps.records.alerts import tell_of_windows, telling_of_failure
from pcc_pipeline.steps.records.audit import Audit
from pcc_pipeline.steps.records.metrics_file import write_metrics
from pcc_pipeline.steps.records.persons import payloads_of
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.steps.watching.later_labels import spelled, with_labels
from pcc_pipeline.steps.watching.looking import demand_workers, watched_rows
from pcc_pipeline.steps.watching.verdicts import (
    file_quality,
    judges_windows,
    observed_report,
    rows_ahead,
    watched_window,
)
from pcc_pipeline.steps.watching.watched_rows import WatchedRows
from pcc_pipeline.storage.objects import replacing
from pcc_pipeline.tracking import payloads, run_names
from pcc_pipeline.tracking.registry.champion import CHAMPION
from pcc_pipeline.tracking.registry.reference_profiles import read_profile
from pcc_pipeline.tracking.registry.versions import ALERT_TAG, find_alias, set_alert
from pcc_pipeline.tracking.runs import StepRun, TrainingRun, read_split, read_training_run, step_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MonitorOutcome:
    """One look at a version.

    Attributes:
        watched: one for each window, in order.
        observed: scores of all rows with labels and probabilities; None of none.
        alarms: what is wrong now; empty where nothing is. `advice` is what may mend that.
        failed: whether that is to be the exit code.
        log: what the monitoring logs say; None where none was named.
        alert_lines: about alerts, where it is the champion that was looked at.
        novel: the file that names the rows unlike what the model learned; None where rows have no novelty.
    """

    run_id: str
    model_version: str
    source: str
    rows: int
    rejected_rows: int
    watched: tuple[WatchedWindow, ...]
    observed: Report | None
    alarms: tuple[str, ...]
    failed: bool
    page: Path
    novel: Path | None
    alert_lines: tuple[str, ...] = ()
    log: Log | None = None
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or 3 where something is wrong and that was to be told so."""
        return 3 if self.failed else 0

    @property
    def next_steps(self) -> list[str]:
        """What to do now, where something is wrong."""
        return [f"read {self.page}", *self.advice] if self.alarms else []

    @property
    def summary(self) -> list[str]:
        last = self.watched[-1]
        estimate = last.health.estimate
        state = [f"alert      {alarm}" for alarm in self.alarms] or [f"           {calm(self.watched)}"]
        novel = last.health.novel_share
        return [
            f"monitored  {counted(self.rows, 'row')} of {in_brief(self.source)} beside {self.model_version}, "
            f"{counted(len(self.watched), 'window')}",
            *state,
            f"           {last.name}: estimated accuracy {estimate.words}, of the reference {estimate.reference:.3f}",
            *([] if novel is None else [f"           {novel:.1%} of its rows are unlike what the model learned"]),
            *(f"           {line}" for line in label_lines(self.watched)),
            *([] if self.log is None else self.log.lines(self.model_version)),
            f"           page       {self.page}",
            *([] if self.novel is None else [f"           novel rows by case id in {self.novel}"]),
            *([f"           {counted(self.rejected_rows, 'row')} rejected"] if self.rejected_rows else []),
            *self.alert_lines,
            *(f"warning    {note}" for note in self.notes),
        ]


def run(params: Params, model_uri: str | None = None, labels: str | None = None) -> MonitorOutcome:
    """Watch a version by `data.path`: messages, or predictions of it.

    Where nobody names another model, a failure is an alert too.

    Args:
        model_uri: `models:/name@alias`, `models:/name/3`, `runs:/<id>/model`; default is the champion.
        labels: a file of labels that came later: case ids, and the column `data.label_column`.

    Raises:
        TrackingError: there is no such model, no champion yet, or the model has no reference profile.
        DataError: the file cannot be read, has no times where windows are days or weeks, or the labels fit no row.
        FeatureError: its vectors are of another encoder than the model's.
    """
    failure_alert = telling_of_failure(params, "monitor") if model_uri is None else nullcontext()
    with failure_alert, step_run("monitor", params) as opened:
        return _run(params, opened, model_uri, labels)


def _run(params: Params, opened: StepRun, model_uri: str | None, labels: str | None) -> MonitorOutcome:
    address, options = params.data.path, params.monitoring
    opened.log(payloads.LoggedParams(used(params, "monitor")))
    demand_own_files(
        {"data.path": address, "labels": labels, "monitoring.logs": options.logs},
        {
            f"output.{name}": file
            for name in ("monitor_page", "novel_rows", "metrics_file")
            if (file := getattr(params.output, name)) is not None
        },
    )
    demand_workers(params.compute)
    for file in (address, labels):
        demand_input(file)
    if options.logs is not None:
        files_of(options.logs)  # says at once where there is none
    loaded = chosen_model(params, model_uri)
    profile = read_profile(loaded.source)
    version = loaded.model.model_version
    tags = {"pcc.version": version, "pcc.model_uri": loaded.model_uri, "pcc.training_run": loaded.run_id}
    opened.log(payloads.Tags({**tags, "pcc.reference": profile.source}))

    @cache
    def training() -> TrainingRun:
        return read_training_run(loaded.run_id)

    def learned() -> RowKeys | None:
        record = read_split(training())
        return None if record is None else record.learned_keys

    rows = watched_rows(params, loaded, profile, learned)
    if rows.lineage is not None:
        opened.log(*payloads_of(rows.lineage))
    inputs = rows.inputs
    if labels is not None:
        rows, more = with_labels(rows, labels, params)
        inputs = [*inputs, *more]
    if pd.notna(rows.labels).any() and training().params.data.normalise_labels:
        rows = spelled(rows, profile.classes)
    if options.windows in ("day", "week") and rows.times is None:
        raise DataError(
            f"the rows have no {TIMESTAMP}, so they have no {options.windows}",
            where=address,
            fix="set monitoring.windows to all or to a number of rows",
        )
    log = None
    if options.logs is not None:
        runs, bad, more = read_logs(options.logs)
        log, inputs = log_of(runs, bad, options.windows), [*inputs, *more]
    logger.info("watching %s with %s rows", version, f"{len(rows):,}")
    parts, now = windows(options.windows, rows.times, len(rows)), datetime.now(UTC)
    watched = tuple(watched_window(part, rows, profile, params, now) for part in parts)
    quality = file_quality(rows, profile, params, now)
    alarms = (*standing(watched, quality), *(() if log is None else log.alarms))
    observed = observed_report(rows, profile)
    drawings = {"drift_by_window": drift_by_window(watched, options.false_alarm_rate)}
    drawings["accuracy_by_window"] = accuracy_by_window(watched)
    pictures = payloads.drawn(drawings)
    look = Look(profile, watched, quality, log, alarms, observed, len(rows), len(rows.rejected), now, options)
    page = monitor_page(look, pictures)
    by_window = [(one.name, window_metrics(one)) for one in watched]
    for step, (_, numbers) in enumerate(by_window):
        opened.log(payloads.Metrics(numbers, step=step))
    whole = {"quality/rows": len(rows), "quality/windows": len(watched), **file_metrics(quality)}
    if log is not None:
        whole |= log.metrics(version, now)
    opened.log(
        payloads.Metrics({**whole, **({} if observed is None else observed.metrics())}),
        payloads.Inputs(inputs),
        payloads.Models(used=[loaded.source.model_id]),
        payloads.Figures(pictures),
        payloads.Text(PAGE, page),
        payloads.Note(monitor_note(look)),
        payloads.Tags({"pcc.window": watched[-1].name, **({ALERT_TAG: "; ".join(alarms)} if alarms else {})}),
    )
    opened.rename(run_names.of_monitor(file_name(address), alarmed=bool(alarms)))
    kinds = kinds_of_standing(watched, quality)
    kinds = (*kinds, "operation") if log is not None and log.alarms else kinds
    # Rows too few to judge leave what stands, here as among the alerts.
    says = bool(alarms) or any(one.judged for one in watched)
    if says and loaded.source.name is not None and loaded.version is not None:
        set_alert(loaded.source.name, loaded.version, "; ".join(alarms), kinds)
    target = Path(params.output.monitor_page)
    with replacing(target) as partial:
        partial.write_text(page, encoding="utf-8")
    alert_lines: list[str] = []
    champion = find_alias(params.registry.model_name, CHAMPION)
    if champion is not None and champion.run_id == loaded.run_id:
        (last, numbers) = by_window[-1]  # what is known of the file as a whole is known now
        seen = {} if observed is None else observed.metrics()
        now_known = {**numbers, **whole, **seen}
        # Where windows are judged by theirs, one of too few rows says nothing of it.
        if quality.alarms or judges_windows(rows, profile) is None:
            now_known["quality/alarm"] = float(bool(quality.alarms))
        words = {
            (one.name, metric): "; ".join(lines) for one in watched for metric, lines in one.alarms_by_metric.items()
        }
        if quality.alarms:
            of_window = words.get((last, "quality/alarm"))
            words[last, "quality/alarm"] = "; ".join([*([of_window] if of_window else []), *quality.alarms])
        alert_lines = tell_of_windows(params, version, [*by_window[:-1], (last, now_known)], words)
        Audit(params, opened).anchor()
        if params.output.metrics_file is not None:
            write_metrics(params, version, now_known, now)
    return MonitorOutcome(
        run_id=opened.run_id,
        model_version=version,
        source=address,
        rows=len(rows),
        rejected_rows=int(rows.rejected.sum()),
        watched=watched,
        observed=observed,
        alarms=alarms,
        advice=tuple(mending(kinds, watched=params.retrain.watch is not None)),
        failed=bool(alarms) and options.fail_on == "alert",
        page=target,
        novel=_write_novel(rows, profile, Path(params.output.novel_rows), sealed=params.output.encrypts),
        alert_lines=tuple(alert_lines),
        log=log,
        notes=(*rows.notes, *rows_ahead(rows, now), *_unbreakable(params, whole, observed)),
    )


def _unbreakable(params: Params, whole: Mapping[str, float], observed: Report | None) -> tuple[str, ...]:
    """Rules that wait for several windows of what each look has one of: they could never tell anybody anything."""
    once = [*whole, *({} if observed is None else observed.metrics())]
    return tuple(
        f"the alert rule {rule.words} can never be broken: a look has one value of it; leave out its windows"
        for rule in params.monitoring.alerts
        if rule.windows > 1
        and (params.monitoring.windows == "all" or any(fnmatchcase(name, rule.metric) for name in once))
    )


def _write_novel(rows: WatchedRows, profile: ReferenceProfile, target: Path, *, sealed: bool) -> Path | None:
    """Case ids and novelty of the rows unlike what the model learned, the most unlike first."""
    novelty, novel = profile.sketcher.novelty(rows.signals), profile.novel(rows.signals)
    if novelty is None or novel is None:
        return None
    table = pd.DataFrame({CASE_ID: rows.case_ids[novel], "novelty": novelty[novel]})
    with replacing(target) as partial:
        ordered = table.sort_values("novelty", ascending=False, kind="stable")
        write_frame(ordered, partial, sealed=sealed)
    return target
