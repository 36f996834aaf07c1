"""What manifests of persons cost: seconds to make one, its size, and seconds to find one person in it.

    python -m benchmarks.lineage --rows 1000000

As many subjects as rows / 8, with case ids of 40 characters as UUIDs have them; see `pcc_pipeline.persons.manifest`.
"""

from __future__ import annotations

import argparse
import resource
import time
import uuid

import numpy as np
import pandas as pd

from pcc_pipeline.data.contract import RowPlaces
from pcc_pipeline.persons.keys import Key, Keys
from pcc_pipeline.persons.manifest import Manifest, look_up
from pcc_pipeline.persons.sought import Sought


def measure(rows: int, batch: int = 50_000) -> dict[str, float]:
    """Seconds to make and to look up, megabytes, and bytes a row."""
    draws = np.random.default_rng(0)
    subjects = draws.integers(rows // 8, size=rows)
    frame = pd.DataFrame(
        {
            "case_id": [f"case-{uuid.UUID(int=number)}" for number in range(rows)],
            "customer": [f"customer-{number}@example.org" for number in subjects],
        }
    )
    side_of_rows = np.where(draws.random(rows) < 0.7, "train", "test")
    key = Key(b"k" * 32)
    began = time.perf_counter()
    manifest = Manifest(key, "customer")
    for first in range(0, rows, batch):
        places = RowPlaces(np.arange(first, min(first + batch, rows)))
        manifest.add(frame[first : first + batch], places, list(side_of_rows[first : first + batch]), "cases.parquet")
    content = manifest.to_bytes()
    made = time.perf_counter()
    person = Sought.of(Keys((key,)), [str(frame["customer"].iloc[0])])
    rows_of_person = look_up(content, Keys((key,)), person, "the manifest")
    looked_up = time.perf_counter()
    assert rows_of_person.rows == int((subjects == subjects[0]).sum())
    return {
        "making, s": made - began,
        "look-up, s": looked_up - made,
        "size, MB": len(content) / 1e6,
        "bytes a row": len(content) / rows,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    for name, value in measure(options.rows).items():
        print(f"{name:<12} {value:8.2f}")
    print(f"{'peak, MB':<12} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:8.0f}")


if __name__ == "__main__":
    main()
