"""A part counted anew after rows were taken out of it: what its file says of itself is what it holds again."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from pcc_pipeline.sealing.parquet import parquet_file, rewriter, said_at_end

if TYPE_CHECKING:
    from pcc_pipeline.steps.parts.folder import Part

_ROWS = 20_000


def counted_anew(path: Path, part: Part, challenger_version: str | None) -> Part:
    """The part with the labels and the challenger's rows that its file holds now.

    Args:
        challenger_version: of the job; None where no challenger answers.
    """
    if not part.counts and not part.challenger_rows:
        return part  # embedded rows, whose columns are the input's, or none of them decided
    counts, challenger_rows = Counter[str](), 0
    with parquet_file(path) as file:
        for batch in file.iter_batches(_ROWS, columns=["predicted_label", "prediction_notes", "model_version"]):
            # A row that is left to a person has a note, and perhaps a label for such rows.
            decided = batch.filter(pc.is_null(batch["prediction_notes"]))["predicted_label"]
            counts.update(decided.to_pylist())
            if challenger_version is not None:
                challenger_rows += pc.sum(pc.equal(batch["model_version"], challenger_version)).as_py() or 0
    # In the order of the model's labels, as before.
    return replace(
        part, counts={label: counts[label] for label in part.counts if counts[label]}, challenger_rows=challenger_rows
    )


def written_anew(path: Path, partial: Path, part: Part) -> None:
    """The same rows, whose file says this of itself. It keeps the time of its last change, by which retention goes."""
    status = path.stat()
    with parquet_file(path) as file, rewriter(path, file, partial) as writer:
        for batch in file.iter_batches(_ROWS):
            writer.write_batch(batch)
        said = {name.encode(): value.encode() for name, value in part.metadata().items()}
        writer.add_key_value_metadata({**said_at_end(file), **said})
    os.utime(partial, ns=(status.st_atime_ns, status.st_mtime_ns))
