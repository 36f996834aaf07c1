"""How a study that several runs search comes to its one end: what the search and the training say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Conclusion:
    """The one run that fitted and registered the model of a study.

    Attributes:
        version: the registered version; empty where MLflow was away, and that run's machine keeps the model.
        trials: how many candidates the study had been told by then.
    """

    run_id: str
    version: str
    trials: int


class ConcludedElsewhereError(Exception):
    """Another run has fitted and registered the model: nothing is left to do here.

    Attributes:
        tried: how many candidates this run tried.
    """

    def __init__(self, conclusion: Conclusion, tried: int) -> None:
        super().__init__(f"run {conclusion.run_id} concluded the study")
        self.conclusion, self.tried = conclusion, tried


class SharedStudy(Protocol):
    """A run's place among those that search one study. The one that ends last concludes it: it fits and registers."""

    def await_others(self, *, willing: bool) -> bool:
        """Wait, with no candidate under way here, until there is something to do.

        Args:
            willing: whether this run would try another candidate.

        Returns:
            True: there is one to ask for, as another run died. False: this run is to conclude the study.

        Raises:
            ConcludedElsewhereError: another run did.
        """
        ...

    @property
    def tried(self) -> int:
        """How many candidates this run tried."""
        ...

    @property
    def left_by(self) -> str | None:
        """The run that was to conclude the study before this one, and ended without saying that it had."""
        ...

    def demand_turn(self) -> None:
        """Whether it is still for this run to conclude: to be asked right before what only one may do.

        Raises:
            SearchError: it was taken for dead meanwhile, and another run does it.
        """
        ...

    def conclude(self, run_id: str, version: str) -> Conclusion:
        """Put on record which run registered the model; those that wait end."""
        ...
