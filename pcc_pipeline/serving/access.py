"""Who is answered, and how often: tokens or the tracking server's accounts, and a limit for each caller."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import math
import re
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.config.serving_settings import ServingParams
from pcc_pipeline.errors import ConfigError, TrackingError
from pcc_pipeline.files import private_folder, replacing
from pcc_pipeline.serving.forms import RefusedError
from pcc_pipeline.tracking.delivery.outages import is_server
from pcc_pipeline.tracking.environment import tracking_address
from pcc_pipeline.tracking.registry.readers import may_read

# For so many seconds what the tracking server said of an account holds; while it is away, a yes holds for longer.
_YES_SECONDS, _NO_SECONDS, _AWAY_SECONDS = 60.0, 5.0, 3600.0
# A request waits so long for it: a name that is looked up in vain takes longer than serving.request_seconds.
_KNOWN_WAITS, _UNKNOWN_WAITS = 2.0, 8.0
# While the tracking server is away it is asked for a known account so often, beside the request.
_AGAIN_SECONDS = 5.0
# Threads that wait for its answers, apart from those that read requests; it takes 8 logins at a time.
_THREADS = 4
# Callers that are remembered, in each list.
_CALLERS = 10_000
_LINE = re.compile(r"(\S+) ([0-9a-f]{64})")

logger = logging.getLogger(__name__)


class Tokens:
    """A file of names and SHA-256 of tokens, one a line, read again when it changes.

    Who is not in it is not known: a file that is gone or empty lets nobody in, and a line that is damaged not him whose
    it was. Each is told once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._names: dict[str, str] = {}
        self._fault: ConfigError | None = None

    def demand(self) -> None:
        """Raises ConfigError where the file cannot be read, has a line that is none, or knows nobody."""
        self._read()
        if self._fault is not None:
            raise self._fault

    def name_of(self, token: str) -> str | None:
        """Whose token it is; None of one that is not in the file."""
        before = self._fault
        self._read()
        if self._fault is not None and str(self._fault) != str(before):
            logger.error("%s (%s)", self._fault.what, self._fault.where)
        # Tokens are random, so that a hash's look-up tells nothing by the time that it takes.
        return self._names.get(hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest())

    def _read(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            self._names, self._seen = {}, None
            self._fault = ConfigError(
                f"the file of tokens cannot be read: {error.strerror}", where=str(self._path), fix=_MAKE
            )
            return
        names, fault = {}, None
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            if match := _LINE.fullmatch(line.strip()):
                names[match[2]] = match[1]
            else:
                fault = fault or ConfigError(
                    "this line is not a name and a SHA-256", where=f"{self._path}, line {number}", fix=_MAKE
                )
        if not names:
            fault = fault or ConfigError("the file of tokens holds none", where=str(self._path), fix=_MAKE)
        self._names, self._seen, self._fault = names, seen, fault


_MAKE = "add one with: pcc serve --new-token NAME"


def new_token(path: Path, name: str) -> str:
    """A new token for a name, which the file gets the SHA-256 of; others of that name stay.

    Raises:
        ConfigError: the name has blanks, or the file cannot be written.
    """
    if re.fullmatch(r"[^\s#]\S*", name) is None:
        raise ConfigError(
            "a name has no blanks and does not begin with #", where=f"--new-token {name}", fix="give another"
        )
    token = secrets.token_urlsafe(32)
    try:
        private_folder(path.parent)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        with replacing(path) as partial:
            ended = before if not before or before.endswith("\n") else f"{before}\n"
            partial.write_text(f"{ended}{name} {hashlib.sha256(token.encode()).hexdigest()}\n", encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the file of tokens cannot be written: {error}",
            where=f"serving.tokens_file: {path}",
            fix="name another file, or mend the folder's permissions",
        ) from error
    return token


class Access:
    """Whom this server answers."""

    def __init__(self, params: Params) -> None:
        settings = params.serving
        self._model = params.registry.model_name
        self._kind = settings.accounts or "none"
        self._tokens = Tokens(local_path(settings.tokens_file)) if self._kind == "tokens" else None
        self._known: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[bool | None]] = {}
        self._last_yes = -math.inf
        self._away_since: float | None = None  # when the tracking server last failed to answer
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pcc-accounts")
        self.limit = Limit(settings)

    def demand_callers(self) -> None:
        """See that somebody can be answered.

        Raises:
            ConfigError: there are no tokens, or no tracking server that has accounts.
        """
        if self._tokens is not None:
            self._tokens.demand()
        address = tracking_address()
        if self._kind == "tracking" and not is_server(address):
            raise ConfigError(
                "the store of runs is no server, and has no accounts",
                where=f"serving.accounts: tracking, with {address}",
                fix="set MLFLOW_TRACKING_URI to a tracking server, or serving.accounts to tokens",
            )

    async def caller(self, authorization: str, address: str) -> str:
        """Who asks: the name of a token or account, or the address where nobody needs one.

        Args:
            authorization: the request's header; empty without one.

        Raises:
            RefusedError: 401 for a caller that is not known, 503 where nobody can tell.
        """
        if self._kind == "none":
            return address
        scheme, _, rest = authorization.partition(" ")
        if self._tokens is not None:
            name = self._tokens.name_of(rest.strip()) if scheme.lower() == "bearer" else None
            if name is None:
                raise RefusedError(401, "no_token", "Send a token that this server knows: Authorization: Bearer TOKEN.")
            return name
        try:
            name, _, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
        except ValueError:  # no base64, or no UTF-8
            name = password = ""
        if scheme.lower() != "basic" or not name or not await self._may_read(name, password):
            raise RefusedError(
                401,
                "no_account",
                "Send an account of the tracking server that may read the model: basic authentication.",
            )
        return name

    @property
    def knows_somebody(self) -> bool:
        """Whether there is a caller who would be answered if the tracking server were away."""
        return self._kind != "tracking" or time.monotonic() - self._last_yes < _AWAY_SECONDS

    @property
    def challenge(self) -> str:
        """What a caller that is not known is asked for (WWW-Authenticate)."""
        return 'Bearer realm="pcc"' if self._kind == "tokens" else 'Basic realm="pcc"'

    async def _may_read(self, name: str, password: str) -> bool:
        key = hashlib.sha256(f"{name}\0{password}".encode()).digest()
        answer, at = self._known.get(key, (False, -math.inf))
        age = time.monotonic() - at
        if age < (_YES_SECONDS if answer else _NO_SECONDS):
            return answer
        known = answer and age < _AWAY_SECONDS
        if known and self._away_since is not None:
            # It may hang rather than refuse, and no request of a known account waits for that more than once.
            if time.monotonic() - self._away_since >= _AGAIN_SECONDS:
                self._ask(key, name, password)
            return True
        task = self._ask(key, name, password)
        await asyncio.wait({task}, timeout=_KNOWN_WAITS if known else _UNKNOWN_WAITS)
        if not task.done():
            self._away_since = time.monotonic()
        may = task.result() if task.done() else None
        if may is None and not known:
            raise RefusedError(
                503, "accounts_away", "The tracking server, which knows the accounts, does not answer.", 5
            )
        return may is not False

    def _ask(self, key: bytes, name: str, password: str) -> asyncio.Task[bool | None]:
        """Ask the tracking server; who comes while it is asked for the same account waits for the same answer.

        It takes two logins of one name at a time, so that a burst of requests would be refused by itself.
        """
        if (task := self._asking.get(key)) is None:
            task = self._asking[key] = asyncio.create_task(self._answer(key, name, password))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _answer(self, key: bytes, name: str, password: str) -> bool | None:
        """What it says, kept; None where it cannot tell."""
        try:
            loop = asyncio.get_running_loop()
            may = await loop.run_in_executor(self._threads, may_read, self._model, name, password)
        except TrackingError:
            self._away_since = time.monotonic()
            return None
        self._away_since = None
        self._known[key] = may, time.monotonic()
        if may:
            self._last_yes = time.monotonic()
        _bound(self._known)
        return may


class Limit:
    """`serving.requests_per_minute` of each caller: as many at once, and then as time goes on (a token bucket)."""

    def __init__(self, settings: ServingParams) -> None:
        self._per_minute = settings.requests_per_minute
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def demand(self, caller: str) -> None:
        """Count a request.

        Raises:
            RefusedError: 429, with the seconds until the next one is taken.
        """
        if self._per_minute is None:
            return
        now, most = time.monotonic(), float(self._per_minute)
        left, at = self._left.get(caller, (most, now))
        left = min(most, left + (now - at) * most / 60)
        if left < 1:
            wait = math.ceil((1 - left) * 60 / most)
            raise RefusedError(429, "too_many_requests", f"At most {self._per_minute:,} requests a minute.", wait)
        self._left[caller] = left - 1, now
        self._left.move_to_end(caller)
        _bound(self._left)


def _bound(kept: OrderedDict[bytes, tuple[bool, float]] | OrderedDict[str, tuple[float, float]]) -> None:
    while len(kept) > _CALLERS:
        kept.popitem(last=False)
