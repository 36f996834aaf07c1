"""Which versions are on duty: the registry's aliases followed while requests are answered.

A new version is loaded and proven beside the old one and takes its place between two requests; one that fails is told
and passed over, and the old one goes on. While the registry is away the last versions go on; one that was deleted from
the registry, or that is on its way out because persons were erased, does not, whatever became of its successor.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.errors import PccError, StorageError, TrackingError
from pcc_pipeline.serving.kept import KeptVersions, ServedBundle
from pcc_pipeline.serving.version import ServedVersion, TextVectors, ready
from pcc_pipeline.steps.inputs.chosen_model import no_champion
from pcc_pipeline.steps.inputs.datasets import encoder_of
from pcc_pipeline.tracking.delivery.outages import is_outage, within
from pcc_pipeline.tracking.delivery.preflight import demand_account, demand_server
from pcc_pipeline.tracking.logged_models.log_and_load import StoredBundle, TrainedModel, stored_bundle
from pcc_pipeline.tracking.registry.erased import ERASURE_TAG, erasure_of
from pcc_pipeline.tracking.registry.versions import Resolved, find_alias, resolve, versions_of
from pcc_pipeline.waiting import jittered

# What was refused is tried again so many seconds later: its files may have been out of reach.
_AGAIN_SECONDS = 60.0
# For what stands under an address: three or four requests.
_PATIENCE_SECONDS = 15.0
_ALIAS = re.compile(r"models:/([^/:@]+)@([^/:@]+)")
_REGISTERED = re.compile(r"models:/([^/:@]+)(?:@[^/:@]+|/[0-9]+)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Duty:
    """The versions that answer, from one moment to the next; never changed, only replaced.

    Attributes:
        challenger: None where it has no part, or there is none.
    """

    champion: ServedVersion | None = None
    challenger: ServedVersion | None = None


@dataclass(frozen=True)
class Refused:
    """A version that does not serve, and why."""

    model_uri: str
    reason: str
    at: float


class Followed:
    """The versions on duty, as the registry has them.

    Args:
        model_uri: what to serve; None is the champion.
    """

    def __init__(self, params: Params, model_uri: str | None) -> None:
        self._params = params
        name = params.registry.model_name
        self._addresses = {"champion": model_uri or f"models:/{name}@champion"}
        if params.ab_test.challenger_share or params.ab_test.shadow:
            self._addresses["challenger"] = f"models:/{name}@challenger"
        self._kept = KeptVersions(local_path(params.serving.models_dir))
        self._vectors = TextVectors(params.serving.cached_texts)
        self._refused: dict[str, Refused] = {}
        self.duty = Duty()
        self.away: str | None = None
        self.switches = 0

    @property
    def refused(self) -> list[Refused]:
        """Versions that stand under an alias that is followed, and do not serve."""
        return list(self._refused.values())

    def bring(self) -> None:
        """See that there is a version to serve, and that its files are on this machine, without loading its encoder.

        Raises:
            PccError: there is none, or its files cannot be kept.
        """
        address = self._addresses["champion"]
        away = self._registry_fault()
        try:
            if away is not None:
                raise away
            self._kept.bring(self._demanded(address))
        except PccError as error:
            if self._last(address, error, away) is None:
                raise

    def first(self) -> None:
        """Put the versions on duty that the registry names; while it is away, or names a bad one, those of last time.

        Raises:
            PccError: there is none to serve, or it cannot be kept.
        """
        away = self._registry_fault()
        for role, address in self._addresses.items():
            try:
                if away is not None:
                    raise away
                self._begin(role, address)
            except PccError as error:
                if isinstance(error, TrackingError):
                    self.away = error.what
                bundle = self._last(address, error, away)
                if bundle is not None:
                    logger.error("%s: the %s of last time serves, %s", _reason(error), role, bundle.model_uri)
                    self._put(role, self._ready(*self._kept.open(bundle.digest, address), bundle))
                elif role == "champion":
                    raise
                else:
                    logger.error("no %s serves: %s", role, _reason(error))

    def _last(self, address: str, error: Exception, away: TrackingError | None) -> ServedBundle | None:
        """What served last, where it may serve on: the registry is away, or the new version is bad."""
        is_away = error is away or (isinstance(error, TrackingError) and is_outage(error))
        if isinstance(error, TrackingError) and not is_away:
            return None
        last = self._kept.last(address)
        if last is None or is_away:
            return last
        try:
            if not self._is_withdrawn(address, last):
                return last
        except TrackingError as unasked:
            if is_outage(unasked):
                return last
            raise
        self._kept.forget(address)
        logger.error("%s, which served last as %s, was withdrawn: it does not serve on", last.model_uri, address)
        return None

    def look(self) -> None:
        """Follow what changed in the registry since the last look; nothing that fails takes a version off duty."""
        error = self._registry_fault()
        try:
            if error is None:
                for role, address in self._addresses.items():
                    self._follow_one(role, address)
        except TrackingError as refused:
            error = refused
        if error is not None and self.away is None:
            logger.warning("the registry cannot be asked (%s): the versions on duty go on", error.what)
        elif error is None and self.away is not None:
            logger.info("the registry answers again")
        self.away = None if error is None else error.what
        if error is None:
            self._kept.clear()

    def follow(self, ended: threading.Event, tell: Callable[[Followed], None]) -> None:
        """Look again and again, until the event is set; `tell` is called after each look."""
        while not ended.wait(jittered(self._params.serving.follow_seconds)):
            try:
                self.look()
                tell(self)
            except Exception as error:  # no fault of a look may end the following
                logger.exception("following the registry failed (%s); it goes on", type(error).__name__)

    def _registry_fault(self) -> TrackingError | None:
        """Why the registry cannot be asked, within seconds: MLflow's own client would try for minutes."""
        try:
            demand_server(create=False)
            demand_account()
        except TrackingError as error:
            return error
        return None

    def _begin(self, role: str, address: str) -> None:
        if role == "champion":
            self._take(role, address, self._demanded(address))
        elif (stored := self._stored(address)) is not None:
            self._take(role, address, stored)
        else:
            logger.warning("%s stands for no version: the champion answers all", address)

    def _demanded(self, address: str) -> StoredBundle:
        """What stands under an address.

        Raises:
            TrackingError: nothing does; it says what there is instead.
        """
        stored = self._stored(address)
        if stored is not None:
            return stored
        name = self._params.registry.model_name
        if address == f"models:/{name}@champion" and (lacking := no_champion(name)):
            raise lacking
        return stored_bundle(resolve(address), address)

    def _follow_one(self, role: str, address: str) -> None:
        stored = self._stored(address)
        current: ServedVersion | None = getattr(self.duty, role)
        if stored is None:
            self._without(role, address, current)
        elif current is None or current.bundle.digest != stored.digest:
            self._try(role, address, stored, current)
        else:
            self._refused.pop(role, None)

    def _try(self, role: str, address: str, stored: StoredBundle, current: ServedVersion | None) -> None:
        before = self._refused.get(role)
        uri = stored.source.model_uri
        if before is None or before.model_uri != uri or time.monotonic() - before.at >= _AGAIN_SECONDS:
            try:
                self._take(role, address, stored)
            except (PccError, MemoryError, RuntimeError) as error:
                reason = _reason(error)
                self._refused[role] = Refused(uri, reason, time.monotonic())
                goes_on = f"{current.name} goes on" if current else "none serves"
                logger.error("the %s %s is refused, %s: %s", role, uri, goes_on, reason)
            else:
                return
        # Asked at each look: it may be removed after its successor was refused.
        if current is not None and self._is_withdrawn(address, current.bundle):
            self._take_off(role, address, current)

    def _take(self, role: str, address: str, stored: StoredBundle) -> None:
        model, folder = self._kept.bring(stored)
        bundle = ServedBundle(stored.digest, stored.source.model_uri, stored.source.run_id)
        self._put(role, self._ready(model, folder, bundle))
        try:
            self._kept.remember(address, bundle)
        except StorageError as error:  # it serves all the same
            logger.error("%s", error)

    def _put(self, role: str, version: ServedVersion) -> None:
        self._refused.pop(role, None)
        if getattr(self.duty, role) is not None:
            self.switches += 1
        self.duty = replace(self.duty, **{role: version})
        logger.info("%s serves as %s (%s)", version.name, role, version.bundle.model_uri)

    def _without(self, role: str, address: str, current: ServedVersion | None) -> None:
        """The registry knows no version under an address that is followed."""
        if current is None:
            return
        if role == "challenger" or self._is_withdrawn(address, current.bundle):
            self._take_off(role, address, current)
        elif self._refused.get(role) is None:
            self._refused[role] = Refused(address, "the alias stands for no version", time.monotonic())
            logger.error("%s stands for no version any more: %s goes on", address, current.name)

    def _take_off(self, role: str, address: str, current: ServedVersion) -> None:
        """What was erased, or taken back, is not served on, nor after a restart."""
        self.duty = replace(self.duty, **{role: None})
        self._kept.forget(address)
        logger.error("%s is %s no more: it is taken off duty", current.name, role)

    def _is_withdrawn(self, address: str, bundle: ServedBundle) -> bool:
        """Whether what stood under an address was deleted, or marked as what learned from rows of erased persons.

        The alias alone may also just have been moved on, or taken off it.

        Raises:
            TrackingError: MLflow does not answer.
        """
        stays = self._params.registry.erasure_policy == "note"
        if match := _REGISTERED.fullmatch(address):
            tags = [version.tags for version in versions_of(match[1]) if version.source == bundle.model_uri]
            return not tags or (not stays and any(each.get(ERASURE_TAG) for each in tags))
        try:
            resolve(address)
            known = resolve(bundle.model_uri)
        except TrackingError as error:
            if is_outage(error):
                raise
            return True
        marked = known.name is not None and known.version is not None and erasure_of(known.name, known.version)
        return bool(marked) and not stays

    def _ready(self, model: TrainedModel, folder: Path, bundle: ServedBundle) -> ServedVersion:
        return ready(model, folder, bundle, self._encoder_in, self._vectors)

    def _encoder_in(self, digest: str, place: str) -> SentenceEncoder:
        """That of a version on duty, where it is the same: it takes seconds to load, and 300 MB."""
        for version in (self.duty.champion, self.duty.challenger):
            if version is not None and version.encoder is not None and version.model.encoder_digest == digest:
                return version.encoder
        return encoder_of(self._params, place)

    def _stored(self, address: str) -> StoredBundle | None:
        """What stands under an address; None where nothing does, and MLflow says so."""
        try:
            return within(_PATIENCE_SECONDS, lambda: _bundle_at(address))
        except TimeoutError as error:
            # The server went away since it was asked for a sign of life; MLflow's client goes on trying for minutes.
            raise TrackingError(
                f"the registry does not answer: {error}", where=address, fix="see that the tracking server runs"
            ) from error


def _bundle_at(address: str) -> StoredBundle | None:
    source: Resolved | None
    if match := _ALIAS.fullmatch(address):
        source = find_alias(match[1], match[2])
        return None if source is None else stored_bundle(source, address)
    try:
        return stored_bundle(resolve(address), address)
    except TrackingError as error:
        if is_outage(error):
            raise
        return None


def _reason(error: BaseException) -> str:
    return error.what if isinstance(error, PccError) else f"{type(error).__name__}: {error}"
