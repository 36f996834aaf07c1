"""What a worker must have as the process that hands out the tasks has it, wherever it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pcc_pipeline.config import Params
from pcc_pipeline.errors import ComputeError
from pcc_pipeline.steps.inputs.suppressed import list_digest
from pcc_pipeline.steps.records.persons import keys_of
from pcc_pipeline.tracking.environment import tracking_address, use_tracking_address


@dataclass(frozen=True)
class Surroundings:
    """Of one process.

    Attributes:
        folder: the one that it was started in, where relative paths begin.
        tracking: MLflow's address.
        key_id: of the key of lineage; None without one.
        suppressed: digest of the list of erased persons; empty without one.
    """

    folder: str
    tracking: str
    key_id: str | None
    suppressed: str

    @classmethod
    def here(cls, params: Params) -> Self:
        """Those of this process."""
        key = keys_of(params).writing
        return cls(str(Path.cwd()), tracking_address(), None if key is None else key.id, list_digest(params))

    def take_on(self, params: Params) -> None:
        """Work in the same folder, ask the same MLflow, and see that the rest is the same here.

        Raises:
            ComputeError: there is no such folder; persons who were erased would be read, or nobody would know who was.
        """
        if str(Path.cwd()) != self.folder:
            try:
                os.chdir(self.folder)
            except OSError as error:
                raise ComputeError(
                    f"a worker cannot work in the folder that this run was started in: {error.strerror}",
                    where=self.folder,
                    fix="share it with the workers' machines under the same name, or begin where all have one, such as "
                    "/, and give whole paths",
                ) from error
        use_tracking_address(self.tracking)
        here = Surroundings.here(params)
        if here.key_id != self.key_id:
            raise ComputeError(
                "a worker does not have the key of lineage that this run has",
                where="lineage.key_file",
                fix="put the key file, or PCC_LINEAGE_KEY, where the workers run",
            )
        if here.suppressed != self.suppressed:
            raise ComputeError(
                "a worker does not have the list of erased persons that this run has",
                where=params.lineage.suppression_file,
                fix="put the same file where the workers run",
            )
