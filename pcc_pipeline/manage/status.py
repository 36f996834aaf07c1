"""`pcc status`: the health of the model that serves, on one screen, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pcc_pipeline.alerting.book import Alert, Letter
from pcc_pipeline.manage.alerts import book_of, receivers_of
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import shown
from pcc_pipeline.model.lineage import SEMVER_TAG
from pcc_pipeline.monitoring.advice import LOOK, mending
from pcc_pipeline.plurals import counted
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.registry.approvals import Approval
from pcc_pipeline.tracking.registry.versions import ALERT_KINDS_TAG, ALERT_TAG
from pcc_pipeline.tracking.store.model_overview import AliasedVersion, ModelOverview, model_overview
from pcc_pipeline.tracking.store.past_runs import RecordedRun

_SCORES = {"metric.test/f1_macro": "macro F1", "metric.test/accuracy": "accuracy"}
_NOT_YET = re.compile(r"was (refused|left to an approver)")
_ENDED = {"FAILED": "failed", "KILLED": "was ended from outside", "RUNNING": "goes on"}


@dataclass(frozen=True)
class Status:
    """What stands, and who would be told of it.

    Attributes:
        alerts: those of this model that stand.
        waiting: letters that no receiver took yet.
        untold: receivers that have no address.
        late: how old the last look may be.
        arriving: whether `retrain.watch` says where newer rows come.
    """

    model: str
    overview: ModelOverview
    alerts: tuple[Alert, ...]
    waiting: tuple[Letter, ...]
    untold: tuple[str, ...]
    late: timedelta
    now: datetime
    arriving: bool = False

    @property
    def wrong(self) -> bool:
        """Whether something is: an alert stands, on the version or in the book."""
        champion = self.overview.champion
        return bool(self.alerts) or (champion is not None and ALERT_TAG in champion.tags)

    @property
    def text(self) -> str:
        """The screen."""
        overview = self.overview
        if overview.champion is None:
            lines = [("champion", f"none; {self.model} has {counted(overview.versions, 'version')}")]
        else:
            lines = [("champion", _named(overview.champion, self.model)), *self._since, *self._tested]
        lines += [*self._challenger, *self._watched, *self._alerts, *self._retrained]
        lines += [("next" if not place else "", step) for place, step in enumerate(self.next_steps)]
        return "\n".join(f"{title:<10} {shown(line)}" for title, line in lines)

    @property
    def next_steps(self) -> list[str]:
        """What to do now, the most urgent first."""
        overview = self.overview
        if overview.champion is None:
            if not overview.versions:
                return ["train: pcc run --data FILE"]
            return ["make a version the champion: pcc models promote"]
        steps = []
        if (
            _failed_since(overview.monitor, overview.watched)
            and overview.monitor is not None
            and overview.monitor.error
        ):
            steps.append(f"mend what ended the last monitor, and look again: {_why(overview.monitor)}")
        if overview.watched is None:
            steps.append(f"look at its messages: {LOOK}")
        elif self.wrong:
            steps.append(f"read monitor.html of run {overview.watched.run_id[:8]}")
            kinds = {alert.metric.partition("/")[0] for alert in self.alerts}
            tagged = overview.champion.tags.get(ALERT_KINDS_TAG, "").split()  # by a look on another machine
            steps += mending(kinds.union(tagged), watched=self.arriving)
        elif self._is_late(overview.watched):
            steps += mending(["absence"], watched=self.arriving)
        if self.waiting:
            steps.append("send what waits: pcc alerts send")
        if overview.retrain is not None and overview.retrain.error:
            what = "stopped" if overview.retrain.stopped else "ended"
            steps.append(f"see what {what} the last retrain: pcc models list --step retrain --failed")
        return steps or ["nothing"]

    @property
    def document(self) -> dict[str, Any]:
        """The same for machines."""
        overview = self.overview
        return {
            "model": self.model,
            "wrong": self.wrong,
            "champion": None if overview.champion is None else _version_document(overview.champion, overview.moved),
            "challenger": None if overview.challenger is None else _version_document(overview.challenger, None),
            "watched": None if overview.watched is None else _run_document(overview.watched),
            "last_monitor": None if overview.monitor is None else _run_document(overview.monitor),
            "last_retrain": None if overview.retrain is None else _run_document(overview.retrain),
            "alerts": [alert.model_dump(mode="json") for alert in self.alerts],
            "waiting": len(self.waiting),
            "next": self.next_steps,
        }

    @property
    def _since(self) -> list[tuple[str, str]]:
        champion, moved = self.overview.champion, self.overview.moved
        assert champion is not None, "asked of a champion"
        if moved is None:
            return [("since", "not on record: the alias was set outside of pcc_pipeline")]
        why = champion.tags.get("pcc.move_reason", "")
        who = champion.tags.get("pcc.moved_by", "")
        return [("since", f"{self._when(moved.started)}, by {who}: {why}")]

    @property
    def _tested(self) -> list[tuple[str, str]]:
        champion = self.overview.champion
        assert champion is not None, "asked of a champion"
        scores = [f"{name} {float(champion.tags[tag]):.4f}" for tag, name in _SCORES.items() if tag in champion.tags]
        return [("tested", ", ".join(scores) or "not evaluated yet: pcc evaluate --model models:/…@champion")]

    @property
    def _challenger(self) -> list[tuple[str, str]]:
        overview = self.overview
        if overview.challenger is None or overview.challenger == overview.champion:
            return []
        lines = [("challenger", _named(overview.challenger, self.model))]
        approval = Approval.of_tags(overview.challenger.tags)
        if approval is not None and approval.state == "waiting":
            lines.append(("", f"waits for an approver, as {approval.asked_by} asked"))
        return lines

    @property
    def _watched(self) -> list[tuple[str, str]]:
        overview = self.overview
        lines: list[tuple[str, str]] = []
        if overview.watched is not None:
            run, numbers = overview.watched, overview.watched.metrics
            alert = run.tags.get(ALERT_TAG)
            windows = counted(int(numbers.get("quality/windows", 1)), "window")
            lines.append(("watched", f"{self._when(run.started)}: {alert or 'nothing is wrong'}"))
            rows = counted(round(numbers.get("quality/rows", 0)), "row")
            lines.append(("", f"{windows}, {rows}, the last {_window(run)}"))
            if "drift/novel_share" in numbers:
                lines.append(("", f"novel rows {numbers['drift/novel_share']:.1%}"))
            lines += [("", line) for line in _accuracies(numbers)]
        elif overview.champion is not None:
            lines.append(("watched", "never"))
        if overview.monitor is not None and _failed_since(overview.monitor, overview.watched):
            line = f"{self._when(overview.monitor.started)}: {_ended(overview.monitor)}"
            lines.append(("last look", line))
        return lines

    @property
    def _alerts(self) -> list[tuple[str, str]]:
        lines = [
            f"{one.level} since {one.since:%Y-%m-%d %H:%M} UTC{f', of {one.version}' if one.version else ''}: "
            f"{one.rule} ({one.value:.4g})"
            for one in self.alerts
        ]
        shown_lines = [("alerts" if not place else "", line) for place, line in enumerate(lines or ["none stands"])]
        if self.waiting:
            names = ", ".join(sorted({letter.to for letter in self.waiting}))
            shown_lines.append(("", f"{counted(len(self.waiting), 'letter')} not taken yet by {names}"))
        return [*shown_lines, *(("", f"{name} is told nothing: it is not set") for name in self.untold)]

    @property
    def _retrained(self) -> list[tuple[str, str]]:
        run = self.overview.retrain
        if run is None:
            return []
        decision, champion = run.tags.get("pcc.reason", ""), self.overview.champion
        if champion is not None and decision.startswith(f"version {champion.number} "):
            # Somebody promoted it since, who went past the gates or approved.
            decision = _NOT_YET.sub("was promoted since", decision)
        done = {"trained": "trained: ", "resumed": "went on: ", "none": "no need: "}.get(
            run.tags.get("pcc.action", ""), ""
        )
        return [
            (
                "retrain",
                f"{self._when(run.started)}: {done}{decision}"
                if decision
                else f"{self._when(run.started)}: {_ended(run)}",
            )
        ]

    def _when(self, moment: datetime) -> str:
        return f"{moment:%Y-%m-%d %H:%M} UTC ({_ago(self.now - moment)})"

    def _is_late(self, run: RecordedRun) -> bool:
        return self.now - run.started > self.late


def status(question: Question) -> Status:
    """Of the registered model of `registry.model_name`, with the alerts of `output.alerts_dir`.

    Raises:
        TrackingError: there is no store, or MLflow does not answer.
        StorageError: the book of alerts cannot be read.
    """
    book, name = book_of(question), question.model_name
    return Status(
        model=name,
        overview=model_overview(name),
        alerts=tuple(alert for alert in book.alerts if alert.subject == name),
        waiting=tuple(book.waiting),
        untold=receivers_of(question).without_address,
        late=timedelta(hours=question.params.monitoring.absence_hours),
        now=datetime.now(UTC),
        arriving=question.params.retrain.watch is not None,
    )


def answer(question: Question) -> tuple[str, bool]:
    """The screen, or JSON; and whether something is wrong."""
    state = status(question)
    return json_text(state.document) if question.as_json else state.text, state.wrong


def _named(version: AliasedVersion, model: str) -> str:
    return (
        " ".join(filter(None, [version.name, version.tags.get(SEMVER_TAG)])) + f", version {version.number} of {model}"
    )


def _ago(since: timedelta) -> str:
    hours = since.total_seconds() / 3600
    if hours < 1:
        return f"{counted(round(max(hours, 0) * 60), 'minute')} ago"
    return f"{counted(round(hours), 'hour')} ago" if hours < 48 else f"{counted(round(hours / 24), 'day')} ago"


def _ended(run: RecordedRun) -> str:
    how = "" if run.stopped else _ENDED.get(run.status, "ended well")
    return ": ".join(filter(None, [how, _why(run)]))


def _why(run: RecordedRun) -> str:
    """Why it ended as it did, in a line; empty where nothing says so."""
    return run.reason.partition("\n")[0]


def _failed_since(run: RecordedRun | None, other: RecordedRun | None) -> bool:
    """Whether a run began after the other one, and did not end well."""
    return run is not None and (other is None or run.started > other.started) and run.status != "FINISHED"


def _window(run: RecordedRun) -> str:
    return run.tags.get("pcc.window", "window")


def _accuracies(numbers: Mapping[str, float]) -> list[str]:
    """Estimated and observed accuracy of the last window."""
    lines = []
    if "estimated/accuracy" in numbers:
        high, reference = (f"{numbers[f'estimated/accuracy_{name}']:.3f}" for name in ("high", "reference"))
        if numbers.get("estimated/upper_bound"):
            estimate = f"at most {high}"
        else:
            low = f"{numbers['estimated/accuracy_low']:.3f}"
            estimate = f"{numbers['estimated/accuracy']:.3f} ({low} to {high})"
        lines.append(f"estimated accuracy {estimate}; of the reference {reference}")
    if "observed/window_accuracy" in numbers:
        ends = f"{numbers['observed/window_accuracy_low']:.3f} to {numbers['observed/window_accuracy_high']:.3f}"
        rows = counted(round(numbers["observed/window_rows"]), "labelled row")
        lines.append(f"observed accuracy {numbers['observed/window_accuracy']:.3f} ({ends}) on {rows}")
    return lines


def _version_document(version: AliasedVersion, moved: RecordedRun | None) -> dict[str, Any]:
    scores = {name: float(version.tags[tag]) for tag, name in _SCORES.items() if tag in version.tags}
    return {
        "version": version.name,
        "number": version.number,
        "semver": version.tags.get(SEMVER_TAG),
        "since": None if moved is None else moved.started.isoformat(),
        "reason": version.tags.get("pcc.move_reason"),
        "by": version.tags.get("pcc.moved_by"),
        "test": {name.replace(" ", "_").lower(): value for name, value in scores.items()},
        "alert": version.tags.get(ALERT_TAG),
    }


def _run_document(run: RecordedRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "status": run.status,
        "started": run.started.isoformat(),
        "error": run.error or None,
        "action": run.tags.get("pcc.action"),
        "reason": run.tags.get("pcc.reason"),
        "window": run.tags.get("pcc.window"),
        "alert": run.tags.get(ALERT_TAG),
        "metrics": {name: value for name, value in sorted(run.metrics.items()) if value == value},
    }
