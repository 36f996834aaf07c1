"""`ab_test`: which of two versions is better on the messages of these days, by the labels that came back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.columns import label_rule, shown_columns
from pcc_pipeline.data.contract import CASE_ID, RowPlaces
from pcc_pipeline.data.labels import respelled
from pcc_pipeline.errors import ConfigError, DataError
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.monitoring.field.ab_test import FieldComparison, Terms, compare_pairs, compare_shares
from pcc_pipeline.monitoring.field.power import labels_needed, pairs_needed, still_needed
from pcc_pipeline.steps.answering.challenge import SHADOW_COLUMNS
from pcc_pipeline.steps.inputs.datasets import read
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.suppressed import without_erased
from pcc_pipeline.steps.records.persons import manifest_payloads, new_manifest
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.payloads import InputFile
from pcc_pipeline.tracking.runs import step_run

_SCORED = (CASE_ID, "predicted_label", "model_version")
_MOST_RECALLS = 5
_PLANNED = (0.01, 0.02, 0.03, 0.05, 0.1)
# What a row is called that the model left to a person: it is no label, so such a row is not right.
_NO_LABEL = "\N{NULL}"


@dataclass(frozen=True)
class AbTestOutcome:
    """Two versions, what came back, and what it says.

    Attributes:
        needed: how many labelled cases more show the smallest difference that matters.
        notes: what was left out, and what could not be checked.
    """

    run_id: str
    challenger: str
    champion: str
    comparison: FieldComparison
    needed: int
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> list[str]:
        made = self.comparison
        how = "both answered each case" if made.paired else "each answered its share"
        accuracy = f"{made.accuracy[0]:.4f} on {made.rows[0]:,} and {made.accuracy[1]:.4f} on {made.rows[1]:,} labelled"
        recalls = [
            f"           recall of {each.label} {each.difference.text} on {each.rows:,} cases"
            for each in made.recalls[:_MOST_RECALLS]
        ]
        more = f"           about {self.needed:,} labels more show a difference of {made.terms.difference:g}"
        return [
            f"compared   challenger {self.challenger} and champion {self.champion}; {how}",
            f"           accuracy {accuracy} cases",
            *(f"           {name} {interval.text}" for name, interval in made.differences.items()),
            *recalls,
            f"verdict    {made.verdict}{f': {made.mismatch}' if made.mismatch else ''} "
            f"({made.terms.confidence:.0%} at all looks together)",
            *([more] if self.needed else []),
            *(f"warning    {note}" for note in self.notes),
        ]

    @property
    def metrics(self) -> dict[str, float]:
        """Under their names in MLflow."""
        made = self.comparison
        names = metric_names([each.label for each in made.recalls])
        numbers = {
            "ab/challenger/accuracy": made.accuracy[0],
            "ab/champion/accuracy": made.accuracy[1],
            "ab/challenger/labelled_rows": made.rows[0],
            "ab/champion/labelled_rows": made.rows[1],
            "ab/log_evidence": made.log_evidence,
            "ab/labels_still_needed": self.needed,
        }
        for name, interval in made.differences.items():
            numbers |= {f"ab/{name}_{part}": getattr(interval, part) for part in ("low", "high")}
            numbers[f"ab/{name}_difference"] = interval.value
        return numbers | {f"ab/class/{names[each.label]}/recall": each.difference.value for each in made.recalls}


@dataclass(frozen=True)
class AbTestPlan:
    """How many labels a comparison takes, before it starts."""

    params: Params
    accuracy: float

    @property
    def summary(self) -> list[str]:
        settings = self.params.ab_test
        share, sure = settings.challenger_share or 0.5, {"confidence": settings.confidence, "power": settings.power}
        lines = [
            f"planned    champion's accuracy {self.accuracy:g}, challenger's share {share:g}, "
            f"{settings.confidence:.0%} sure, power {settings.power:.0%}; labelled cases of both"
        ]
        for difference in sorted({*_PLANNED, settings.difference}):
            by_share = labels_needed(self.accuracy, difference, share, **sure)
            pairs = pairs_needed(max(0.1, difference), difference, **sure)
            lines.append(
                f"           a difference of {difference:g}: {by_share.looked_at_daily:,} "
                f"({by_share.looked_at_once:,} if looked at once only); as shadow, where one in "
                f"{1 / max(0.1, difference):.0f} cases is right in one version alone, {pairs.looked_at_daily:,}"
            )
        return lines


def plan(params: Params, accuracy: str) -> AbTestPlan:
    """How many labels are needed, by the champion's accuracy; nothing is read or logged.

    Raises:
        ConfigError: it is no share.
    """
    try:
        share = float(accuracy)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise ConfigError(
            f"{accuracy!r} is no accuracy", where="option plan", fix="give the champion's accuracy, such as 0.9"
        )
    return AbTestPlan(params, share)


def run(params: Params, labels: str | None, challenger: str | None = None) -> AbTestOutcome:
    """Compare the two versions that answered the cases in `data.path`, the files that `score` wrote.

    Args:
        labels: a file with the columns case_id and `data.label_column`; cases without a label yet are left out.
        challenger: its version, such as v20260101_120000; default is the later of the two.

    Raises:
        ConfigError: no labels are named, or the challenger is none of the two.
        DataError: a file has not the columns, or not two versions; or nothing came back.
    """
    with step_run("ab_test", params) as opened:
        opened.log(payloads.LoggedParams(used(params, "ab_test")))
        if labels is None:
            raise ConfigError(
                "no labels are named, and without them no version is better",
                where="option labels",
                fix="give --labels FILE, with the columns case_id and the label; or --plan 0.9, before a test starts",
            )
        for address in (params.data.path, labels):
            demand_input(address)
        answered, scored = _answers(params.data.path)
        answered, kept_out = without_erased(answered, params)
        known, labelled = _labels(labels, params.data.label_column)
        if params.data.normalise_labels:
            names = [name for name in ("predicted_label", "challenger_label", "champion_label") if name in answered]
            answers = sorted(set(answered[names].to_numpy().ravel()))
            known = pd.Series(respelled(known, answers), index=known.index, dtype=object)
        pair = _pair(answered, params.data.path, challenger)
        manifest = new_manifest(params)
        if manifest is not None:
            manifest.add(answered, RowPlaces(np.arange(len(answered))), "compared", params.data.path)
        opened.log(
            *manifest_payloads(manifest),
            payloads.Inputs([scored, labelled]),
            payloads.Tags({"pcc.version": pair[0], "pcc.ab_challenger": pair[0], "pcc.ab_champion": pair[1]}),
        )
        outcome = _compared(params, opened.run_id, answered, known, pair)
        outcome = replace(outcome, notes=(*outcome.notes, *kept_out))
        opened.log(
            payloads.Metrics(outcome.metrics),
            payloads.Tags({"pcc.ab_verdict": outcome.comparison.verdict}),
            payloads.Json(
                "comparison.json",
                {"challenger": pair[0], "champion": pair[1], "needed": outcome.needed, "notes": list(outcome.notes)}
                | outcome.comparison.to_json(),
            ),
            payloads.Note("\n".join(f"- {line.strip()}" for line in outcome.summary)),
        )
        return outcome


def _compared(
    params: Params, run_id: str, answered: pd.DataFrame, known: pd.Series[str], pair: tuple[str, str]
) -> AbTestOutcome:
    settings = params.ab_test
    terms = Terms(settings.difference, settings.confidence, settings.challenger_share or None)
    notes = []
    if paired := "challenger_label" in answered:
        # Row by row: after a promotion or a rollback the two have changed places.
        own, other = answered["challenger_label"], answered["champion_label"]
        challenged = answered["challenger_version"] == pair[0]
        rows = answered.assign(
            challenger_label=own.where(challenged, other), champion_label=other.where(challenged, own)
        )
    else:
        both = answered.groupby(CASE_ID)["model_version"].transform("nunique") > 1
        if both.any():
            notes.append(f"{answered.loc[both, CASE_ID].nunique():,} cases that both versions answered are left out")
        rows = answered[~both]
        if terms.share is None:
            notes.append("whether the shares match was not checked: give the challenger_share of the score runs")
    repeated = rows.duplicated(CASE_ID)
    if repeated.any():
        notes.append(f"{int(repeated.sum()):,} repeated answers to a case are left out")
    rows = rows[~repeated]
    back = rows[rows[CASE_ID].isin(known.index)]
    expected = known.loc[back[CASE_ID]].to_numpy(dtype=object)
    counts = [len(back)] * 2 if paired else [int((back["model_version"] == version).sum()) for version in pair]
    if not all(counts):
        raise DataError(
            f"of {len(rows):,} answered cases {len(back):,} have a label by now, and a version has none of them "
            f"(challenger {counts[0]:,}, champion {counts[1]:,})",
            where="the labels, joined by case_id",
            fix="give labels of the cases that were scored, under the same case ids",
        )
    if paired:
        comparison = compare_pairs(expected, back["challenger_label"], back["champion_label"], terms)
    else:
        its = [(back["model_version"] == version).to_numpy() for version in pair]
        answers = [(expected[one], back["predicted_label"].to_numpy(dtype=object)[one]) for one in its]
        total = (int((rows["model_version"] == pair[0]).sum()), int((rows["model_version"] == pair[1]).sum()))
        comparison = compare_shares(answers[0], answers[1], terms, total)
    return AbTestOutcome(run_id, *pair, comparison, still_needed(comparison, power=settings.power), tuple(notes))


def _answers(address: str) -> tuple[pd.DataFrame, InputFile]:
    """Scored rows: of shadow answers those of both versions, else the label and the version."""
    parts, digest = [], sha256()
    for batch in read(address):
        columns = SHADOW_COLUMNS if set(SHADOW_COLUMNS) <= set(batch.columns) else _SCORED
        parts.append(_texts(batch, columns, f"data: {address}", "give files that `score` wrote"))
        digest.update(_bytes(parts[-1]))
    answered = pd.concat(parts, ignore_index=True)
    if len({tuple(part.columns) for part in parts}) > 1:
        raise DataError(
            "answers that were used and shadow answers are in one set of files",
            where=f"data: {address}",
            fix="give one kind: those in predictions, or those in *.shadow.parquet",
        )
    return answered, InputFile(address, "scored", digest.hexdigest(), len(answered))


def _labels(address: str, column: str) -> tuple[pd.Series[str], InputFile]:
    """Case id -> label, of cases that have one, and one only."""
    fix = "give a file with the case ids of the scored rows and their labels; --label … names the column"
    parts = [_texts(batch, (CASE_ID, column), f"labels: {address}", fix) for batch in read(address)]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows[column] != _NO_LABEL].drop_duplicates()
    rows = rows[~rows[CASE_ID].duplicated(keep=False)]
    digest = sha256(_bytes(rows)).hexdigest()
    return rows.set_index(CASE_ID)[column], InputFile(address, "labels", digest, len(rows))


def _texts(batch: pd.DataFrame, columns: tuple[str, ...], where: str, fix: str) -> pd.DataFrame:
    """Columns as text, as labels are read everywhere; what is missing is no label."""
    if missing := [name for name in columns if name not in batch]:
        raise DataError(
            f"the file has no column {', '.join(missing)}; it has {shown_columns(batch.columns)}", where=where, fix=fix
        )
    return pd.DataFrame({name: label_rule(batch[name])[0].fillna(_NO_LABEL).astype(object) for name in columns})


def _bytes(rows: pd.DataFrame) -> bytes:
    lines = ["\x1f".join(map(str, row)) for row in rows.itertuples(index=False, name=None)]
    return "\n".join(lines).encode(errors="surrogatepass")


def _pair(answered: pd.DataFrame, address: str, challenger: str | None) -> tuple[str, str]:
    """The challenger and the champion among the versions that answered."""
    names = ("challenger_version", "champion_version") if "challenger_label" in answered else ("model_version",)
    versions = sorted({str(version) for name in names for version in np.unique(answered[name].astype(str))})
    if len(versions) != 2:
        raise DataError(
            f"{len(versions)} versions answered here, and two are compared: {', '.join(versions[:10])}",
            where=f"data: {address}",
            fix="give files of the days in which two answered: score --challenger-share 0.1, or --shadow true",
        )
    if challenger is not None and challenger not in versions:
        raise ConfigError(
            f"{challenger} did not answer here; {versions[0]} and {versions[1]} did",
            where="option challenger",
            fix="name one of these, or leave the option out: the later version is the challenger",
        )
    chosen = challenger or versions[1]
    return chosen, next(version for version in versions if version != chosen)
