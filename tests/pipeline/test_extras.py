"""Who has the extras for clusters, shared stores and messages, and uses none of them, does not wait for one."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions, requires

import pytest
from packaging.requirements import Requirement

from pcc_pipeline.data.sample.messages import sample

pytestmark = pytest.mark.pipeline


def modules_of(*extras: str) -> set[str]:
    """What can be imported of the packages that these extras name."""
    needs = [Requirement(text) for text in requires("pcc-pipeline") or ()]
    markers = [(each.name.lower(), each.marker) for each in needs if each.marker is not None]
    names = {name for name, marker in markers if any(marker.evaluate({"extra": extra}) for extra in extras)}
    return {
        module for module, owners in packages_distributions().items() if {owner.lower() for owner in owners} & names
    }


def test_a_run_on_one_machine_imports_nothing_of_an_extra(store, outside, with_vectors) -> None:
    rows = with_vectors(sample(240))
    rows.to_parquet(store.folder / "cases.parquet", index=False)
    rows.drop(columns="intent").to_parquet(store.folder / "today.parquet", index=False)
    (store.folder / "params.yaml").touch()
    code = (
        "import shlex, sys\nfrom pcc_pipeline.command_line import pcc\n"
        "for line in ('main --data cases.parquet --search-method none --promote auto --set registry.gates=[]',\n"
        "             'score --data today.parquet --output scored.parquet',\n"
        "             'monitor --data scored.parquet'):\n"
        "    assert pcc.main(shlex.split(line)) == 0, line\n"
        "print('\\nMODULES', *{name.partition('.')[0] for name in sys.modules})"
    )
    process = outside(store.folder, sys.executable, "-c", code)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    imported = set(out.rpartition("MODULES")[2].split())
    assert {"pcc_pipeline", "mlflow", "sklearn"} <= imported
    extras = modules_of("dask", "notify", "postgresql", "redis")
    assert {"apprise", "distributed", "psycopg", "redis"} <= extras
    assert imported & {*extras, "dask"} == set()
