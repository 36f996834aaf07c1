"""What the routes of one process share: the versions on duty, the queue, the counts; cases in, answers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.features.full_vectors import FULL_WIDTH
from pcc_pipeline.serving.access import Access
from pcc_pipeline.serving.batches import Batcher, FullError, LateError, Work
from pcc_pipeline.serving.follow import Duty, Followed
from pcc_pipeline.serving.forms import Answered, Case, RefusedError
from pcc_pipeline.serving.metrics import Metrics
from pcc_pipeline.serving.version import ServedVersion
from pcc_pipeline.steps.answering.challenge import is_challengers


class Service:
    """One process's. To be made within its event loop."""

    def __init__(self, params: Params, followed: Followed, metrics: Metrics, access: Access) -> None:
        self.params, self.followed, self.metrics, self.access = params, followed, metrics, access
        self.batcher = Batcher(params.serving, metrics)
        self.draining = False

    @property
    def not_ready(self) -> str | None:
        """Why no request should be sent here; None where it may."""
        if self.draining:
            return "this server is about to end"
        if self.followed.duty.champion is None:
            return "no version is on duty"
        if self.followed.away is not None and not self.access.knows_somebody:
            return (
                "the tracking server, which knows the accounts, is away, and none was asked for since this server began"
            )
        return None

    def duty(self) -> tuple[ServedVersion, Duty]:
        """The champion, and all that are on duty now.

        Raises:
            RefusedError: there is none.
        """
        duty = self.followed.duty
        if duty.champion is None:
            raise RefusedError(503, "no_model", "No version is on duty.", 5)
        return duty.champion, duty

    async def answers(
        self, cases: Sequence[Case], encoder_digest: str | None, deadline: float
    ) -> tuple[ServedVersion, list[Case], list[Answered | None]]:
        """The champion, the cases with what it cannot answer as faults, and the answers to the others.

        Raises:
            RefusedError: there is no room or no version, or the vectors are of another encoder.
            TimeoutError: the deadline was over before their turn came.
        """
        champion, duty = self.duty()
        if encoder_digest is not None and champion.model.encoder_digest != encoder_digest:
            message = f"The vectors are not of the encoder of {champion.name}'s training."
            raise RefusedError(409, "another_encoder", message)
        cases = [_for_version(case, champion) for case in cases]
        good = [place for place, case in enumerate(cases) if not case.fault]
        shadow = duty.challenger if self.params.ab_test.shadow else None
        works: list[tuple[Work, list[int]]] = []
        for version, places in self._dealt(cases, good, champion, duty):
            texts = [place for place in places if cases[place].text is not None]
            whole = [place for place in places if cases[place].vector is not None]
            beside = shadow is not None and all(_may_have(cases[place], champion, shadow) for place in places)
            work = Work(
                version,
                [str(cases[place].text) for place in texts],
                [vector for place in whole if (vector := cases[place].vector) is not None],
                shadow if beside else None,
                deadline,
            )
            works.append((work, texts + whole))
        tables = await self._answered([work for work, _ in works]) if works else []
        answers: list[Answered | None] = [None] * len(cases)
        for (work, places), table in zip(works, tables, strict=True):
            for place, row in zip(places, table, strict=True):
                answers[place] = Answered.of(work.version, row)
        self._count(answers, len(cases) - len(good))
        return champion, cases, answers

    def _dealt(
        self, cases: Sequence[Case], good: list[int], champion: ServedVersion, duty: Duty
    ) -> list[tuple[ServedVersion, list[int]]]:
        """Which version answers which rows."""
        share = self.params.ab_test.challenger_share
        if not good or not share or duty.challenger is None:
            return [(champion, good)] if good else []
        theirs = is_challengers(np.array([cases[place].case_id for place in good], dtype=object), share)
        theirs &= [_may_have(cases[place], champion, duty.challenger) for place in good]
        split = (champion, np.array(good)[~theirs].tolist()), (duty.challenger, np.array(good)[theirs].tolist())
        return [(version, places) for version, places in split if places]

    async def _answered(self, works: list[Work]) -> list[np.ndarray]:
        try:
            return await self.batcher.answer(works)
        except FullError as error:
            raise RefusedError(429, "full", "Too many texts wait already.", error.retry_after) from None
        except LateError:
            raise TimeoutError from None

    def _count(self, answers: Sequence[Answered | None], refused: int) -> None:
        if refused:
            self.metrics.rows_refused(refused)
        by_version: dict[int, list[Answered]] = {}
        for answer in answers:
            if answer is not None:
                by_version.setdefault(id(answer.version), []).append(answer)
        for each in by_version.values():
            self.metrics.answers(each[0].version, each)


def _for_version(case: Case, version: ServedVersion) -> Case:
    """The case, with a fault where this version cannot answer its kind."""
    if case.text is not None and not version.takes_texts:
        return replace(case, text=None, fault=f"text, and {version.name} takes vectors of {FULL_WIDTH} numbers")
    return case


def _may_have(case: Case, champion: ServedVersion, challenger: ServedVersion) -> bool:
    """Whether the challenger can answer what was sent for the champion.

    A whole vector holds a lexical half, which each model that takes texts has of its own.
    """
    if case.text is not None:
        return challenger.takes_texts
    alike = challenger.model.encoder_digest == champion.model.encoder_digest
    return alike and not champion.takes_texts and not challenger.takes_texts
