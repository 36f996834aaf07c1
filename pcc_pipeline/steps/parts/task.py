"""The task of one input: it is sent to workers, may be done twice, and is nothing to do where its part stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from pcc_pipeline.config import Params
from pcc_pipeline.steps.parts.folder import Part, PartsFolder
from pcc_pipeline.steps.parts.surroundings import Surroundings


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
