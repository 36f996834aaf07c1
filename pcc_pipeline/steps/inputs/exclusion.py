"""The list of rows that `data.exclude` names, to be left out of training."""

from __future__ import annotations

from dataclasses import dataclass

from pcc_pipeline.data.columns import as_list, label_rule, shown_columns
from pcc_pipeline.data.contract import CASE_ID
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.errors import DataError
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.inputs.datasets import read
from pcc_pipeline.steps.inputs.split import Split


@dataclass(frozen=True)
class Exclusion:
    """Case ids to leave out, and the file that lists them."""

    path: str | None = None
    ids: frozenset[str] = frozenset()

    def notes(self, split: Split) -> tuple[str, ...]:
        """How many rows it took away, as a line; none where nothing is listed."""
        return (
            ()
            if self.path is None
            else (f"{counted(split.excluded, 'row')} left out of training, as data.exclude lists",)
        )

    def warnings(self, dataset: Dataset, split: Split) -> tuple[str, ...]:
        """Listed ids that took no row away."""
        unknown = len(self.ids - set(dataset.case_ids))
        tested = len(self.ids & set(dataset.case_ids[split.test]))
        said = []
        if unknown:
            said.append(f"{unknown:,} of the {len(self.ids):,} case ids that data.exclude lists are not in the data.")
        if tested:
            said.append(
                f"{counted(tested, 'test row')} that data.exclude lists {'stays' if tested == 1 else 'stay'}: scores "
                "are of the same rows with the list and without."
            )
        return tuple(said)


def read_exclusion(path: str | None) -> Exclusion:
    """The ids in the file's column case_id; none without a file.

    Raises:
        DataError: the file cannot be read, or has no such column.
    """
    if path is None:
        return Exclusion()
    ids: set[str] = set()
    for batch in read(path, may_be_empty=True):
        if CASE_ID not in batch:
            raise DataError(
                f"the list of rows to leave out has no column {CASE_ID}; it has {shown_columns(batch.columns)}",
                where=f"data.exclude: {path}",
                fix="give a Parquet or CSV file with the rows' case ids, such as label_issues.parquet of a training",
            )
        ids.update(as_list(label_rule(batch[CASE_ID])[0].dropna()))
    return Exclusion(path, frozenset(ids))
