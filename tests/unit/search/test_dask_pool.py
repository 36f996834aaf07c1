"""What a worker of a cluster refuses to measure."""

from __future__ import annotations

import pytest

from pcc_pipeline.errors import ComputeError
from pcc_pipeline.search.libraries import library_versions
from pcc_pipeline.search.measuring import measure
from pcc_pipeline.search.pools import dask_pool


def test_a_worker_with_other_libraries_measures_nothing_and_names_them() -> None:
    here = library_versions()
    measured = dask_pool._measure(measure, lambda values, fold: {"f1": values["C"] + fold}, {"C": 1.0}, 2, here)
    assert measured.scores == {"f1": 3.0}
    other = {**here, "scikit-learn": "0.1"}
    with pytest.raises(ComputeError, match=f"scikit-learn {here['scikit-learn']}, not 0.1"):
        dask_pool._measure(measure, lambda values, fold: {"f1": 1.0}, {}, 0, other)
