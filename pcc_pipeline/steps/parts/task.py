"""The task of one input: it is sent to workers, may be done twice, and is nothing to do where its part stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import Contract
from pcc_pipeline.steps.parts.folder import Part, PartsFolder
from pcc_pipeline.steps.parts.surroundings import Surroundings

# What the fields of a contract are called in a job: as the options of `data` that they come from.
_NAMES = {"required": "schema", "named_by": "subject_column"}


def rules_of(contract: Contract) -> dict[str, Any]:
    """What makes a row good, for a job: parts that other rules made are no parts of the same data set.

    Only what is set, so that a folder that was begun before rules stood in its job goes on without any. Who is kept out
    is no rule of the job: an erasure takes rows out of the parts that stand.
    """
    rules = {each.name: getattr(contract, each.name) for each in fields(contract) if each.compare}
    return {
        _NAMES.get(name, name): sorted(set(rule)) if isinstance(rule, tuple) else rule
        for name, rule in rules.items()
        if rule
    }


@dataclass(frozen=True)
class PartTask(ABC):
    """Turns an input into its part.

    Attributes:
        folder: the address of the folder of parts.
        job: digest of the job.
        around: of the process that hands out the tasks.
    """

    params: Params
    folder: str
    job: str
    around: Surroundings

    def __call__(self, source: str) -> Part:
        """The part, which stands then.

        Raises:
            PccError: the input, what works on it, or the folder cannot be used; nothing half-written stays.
        """
        self.around.take_on(self.params)
        folder = PartsFolder(self.folder)
        name = folder.name_of(source)
        return folder.standing(name) or self.made(folder, name, source)

    @abstractmethod
    def made(self, folder: PartsFolder, name: str, source: str) -> Part:
        """The part, made now."""

    @abstractmethod
    def let_go(self) -> None:
        """Give back what this process has open for it."""
