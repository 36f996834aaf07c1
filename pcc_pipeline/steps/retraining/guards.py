"""What stands against training on a data set, whatever is new in it: a person must look first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pcc_pipeline.config import Params
from pcc_pipeline.data.columns import shown_labels
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.data.labels import respelled
from pcc_pipeline.data.quality.counts import duplicates
from pcc_pipeline.data.quality.near_duplicates import MOST_HELD_OUT, near_duplicates
from pcc_pipeline.data.splits import RowKeys, label_keys
from pcc_pipeline.errors import DataError, PccError
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.inputs.datasets import load_dataset
from pcc_pipeline.steps.inputs.exclusion import read_exclusion
from pcc_pipeline.steps.inputs.split import assign
from pcc_pipeline.steps.retraining.champion import Champion
from pcc_pipeline.tracking.registry import versions


class RetrainStoppedError(PccError):
    """There is new data, and something about it must be looked at by a person; nothing was trained.

    Attributes:
        guard: which of them: data, often, labels, rows or quality.
    """

    guard = "data"


def stopped(guard: str, what: str, *, where: str, fix: str) -> RetrainStoppedError:
    """The error of a guard."""
    error = RetrainStoppedError(what, where=where, fix=fix)
    error.guard = guard
    return error


def demand_sense(params: Params, dataset: Dataset, champion: Champion | None, *, demanded: bool) -> None:
    """Hold a data set that the champion has not learned against the guards of `retrain`.

    Args:
        demanded: an alert says that the champion is wrong, so that one new row is enough.

    Raises:
        RetrainStoppedError: one of them stands against it.
    """
    _demand_time(params)
    if champion is not None:
        _demand_labels(params, dataset, champion)
        _demand_rows(params, dataset, champion, demanded=demanded)
        _demand_quality(params, dataset, champion)


def _demand_time(params: Params) -> None:
    today = f"v{datetime.now(UTC):%Y%m%d}_"
    known = versions.versions_of(params.registry.model_name)
    trained = sum(version.tags.get(versions.VERSION_TAG, "").startswith(today) for version in known)
    if trained >= params.retrain.most_a_day:
        raise stopped(
            "often",
            f"{counted(trained, 'version')} {'was' if trained == 1 else 'were'} trained today already",
            where=f"retrain.most_a_day: {params.retrain.most_a_day}",
            fix="look why the data changes so often; it is looked at again tomorrow",
        )


def _demand_labels(params: Params, dataset: Dataset, champion: Champion) -> None:
    if params.retrain.labels == "any":
        return
    known, here = set(map(str, champion.training.metadata["classes"])), set(map(str, dataset.labels))
    if params.data.normalise_labels:  # the most frequent spelling may be another one by now
        here = set(respelled(dataset.labels, sorted(known)))
    record, new = champion.split, sorted(here - known)
    if record is not None and record.labels is not None:  # what it had among test rows alone, it did not learn
        new = [label for label, key in zip(new, label_keys(new), strict=True) if key not in record.labels]
    changed = sorted([*(f"+{label}" for label in new), *(f"-{label}" for label in known - here)])
    if not changed:
        return
    raise stopped(
        "labels",
        f"labels have appeared or vanished since {champion.name}: {shown_labels(changed, 1)}",
        where=params.data.path,
        fix="if that is meant: --set retrain.labels=any",
    )


def _demand_rows(params: Params, dataset: Dataset, champion: Champion, *, demanded: bool) -> None:
    texts = RowKeys.of(dataset.texts).texts
    record = champion.split
    new = len(set(texts.tolist())) if record is None else record.unknown_texts(texts, dataset.labels)
    least = min(1, params.retrain.min_new_rows) if demanded else params.retrain.min_new_rows
    if new < least:
        raise stopped(
            "rows",
            f"{counted(new, 'text')} {'is new or has' if new == 1 else 'are new or have'} another label since "
            f"{champion.name}, too few to train again",
            where=f"retrain.min_new_rows: {params.retrain.min_new_rows:,}",
            fix="wait for more, or ask for fewer",
        )


def _demand_quality(params: Params, dataset: Dataset, champion: Champion) -> None:
    margin = params.retrain.worse_by
    if margin is None:
        return
    before = _of_champion(champion)
    worse = [
        f"{share:.1%} {name}, of the champion's data {before[name]:.1%}"
        for name, share in _of_data(params, dataset).items()
        if name in before and share > before[name] + margin
    ]
    if worse:
        raise stopped(
            "quality",
            f"the data is worse than that of {champion.name}: {'; '.join(worse)}",
            where=f"{params.data.path}, retrain.worse_by: {margin:g}",
            fix="look at it with `pcc profile --data …` and mend it; if it is meant so, set retrain.worse_by",
        )


_REJECTED, _IN_CONFLICT, _NEAR = "of the rows are rejected", "of the texts have two labels", "near-duplicates"


def _of_data(params: Params, dataset: Dataset) -> Mapping[str, float]:
    """What is bad of a data set, as shares; near-duplicates as a training counts them: held-out rows of training rows.

    Raises:
        RetrainStoppedError: it cannot be split.
    """
    test_path, test_file = params.data.test_path, None
    try:
        if test_path is not None:
            test_file = load_dataset(test_path, params, sorted(set(dataset.labels)))
        split = assign(dataset, params, test_file, read_exclusion(params.data.exclude).ids)
    except DataError as error:
        raise not_fit(error, params.data.path) from error
    counts = duplicates(split.record.keys.texts, list(dataset.labels))
    texts = dataset.texts
    held_out = [texts[place] for part in (split.validation, split.test) for place in part]
    held_out += [] if test_file is None else test_file.texts
    return {
        _REJECTED: len(dataset.rejected) / max(dataset.total_rows, 1),
        _IN_CONFLICT: counts.conflicting_texts / max(counts.unique_texts, 1),
        _NEAR: near_duplicates([texts[place] for place in split.train], held_out).share,
    }


def _of_champion(champion: Champion) -> Mapping[str, float]:
    """The same of the champion's data; without what an earlier release did not count."""
    data = champion.training.metrics["data"]
    held_out = data.get("near_duplicates_looked_at")
    if held_out is None and champion.training.params.data.test_path is None:  # of an earlier release
        class_counts = data.get("class_counts", {})
        held_out = min(sum(sum(class_counts.get(side, {}).values()) for side in ("val", "test")), MOST_HELD_OUT)
    counts = {
        _REJECTED: (data.get("rejected_rows"), data["rows"] + data.get("rejected_rows", 0)),
        _IN_CONFLICT: (data.get("conflicting_texts"), data.get("unique_texts", 0)),
        _NEAR: (data.get("near_duplicate_rows"), held_out),
    }
    return {name: number / of for name, (number, of) in counts.items() if number is not None and of}


def not_fit(error: DataError, address: str) -> RetrainStoppedError:
    """A data set that cannot be read, or does not keep the contract, as a reason not to train."""
    return stopped("data", error.what, where=error.where or address, fix=error.fix or "mend the data")
