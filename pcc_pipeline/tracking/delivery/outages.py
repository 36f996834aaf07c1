"""What went wrong with MLflow: a server or store that is away for a while, an account it refuses, or a refused request.

Only an outage is worth another try; a refused request would be refused again.
"""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

import mlflow
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from pcc_pipeline.errors import PccError, TrackingError
from pcc_pipeline.files import temporary_place
from pcc_pipeline.interruption import allowed
from pcc_pipeline.masking import quotable

T = TypeVar("T")
ACCOUNT_FIX = (
    "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN: missing, wrong or expired"
)
# How MLflow words the answer of a server that is not JSON, and how it is worded where a try of it gave up.
_CODE_IN_TEXT = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses|\b(\d{3}) \w+ Error: ")
_UNREACHED = ("failed with exception", "failed with timeout exception")
_BUSY = (408, 425, 429)
_ACCOUNT = (401, 403)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM_IN_TEXT = re.compile(rf"\[Errno (?:{errno.ENOSPC}|{errno.EDQUOT})\]")
# A bundle is larger; a disk that takes this may be said to have room.
_PROBE_BYTES = 1 << 20


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises, if it does so in time. Libraries below have patience of their own, in minutes.

    Raises:
        TimeoutError: it takes longer; it is left to itself and cannot hold up the end of the process.
    """
    results: list[T] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # carried over to the thread that asked, which raises it
            raised.append(error)

    thread = Thread(target=work, daemon=True, name="pcc-within")
    thread.start()
    with allowed():
        thread.join(seconds)
    if raised:
        raise raised[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error of MLflow, requests or the bucket's client; 503 for one that got no answer.

    None: it came from something else.
    """
    if isinstance(error, TrackingError):
        return None if error.__cause__ is None else status_of(error.__cause__)
    response = getattr(error, "response", None)
    if getattr(response, "status_code", None):
        return int(response.status_code)  # type: ignore[union-attr] # not None: it has a status
    if isinstance(error, RestException):
        return int(error.get_http_status_code())
    if isinstance(error, MlflowException):
        text = str(error.message)
        if match := _CODE_IN_TEXT.search(text):
            return int(next(group for group in match.groups() if group))
        if any(words in text for words in _UNREACHED):
            return 503
        return int(error.get_http_status_code())
    if type(error).__module__.startswith("google."):
        code = getattr(error, "code", None)
        if isinstance(code, int):
            return int(code)
        # google.auth's errors: credentials that are missing or were taken back, or a token service that is away.
        return 401 if "auth" in type(error).__module__ and "Transport" not in type(error).__name__ else 503
    if isinstance(error, SQLAlchemyError | OSError):
        return 503
    return None


def reason_of(error: BaseException) -> str:
    """Why, in one line and without what is secret in an address: a database's own words where it was one.

    The lines after the first are for developers, and a database's quote what was to be written.
    """
    text = str(getattr(error, "message", error))
    chain: BaseException | None = error
    while chain is not None:
        if getattr(chain, "orig", None) is not None:
            text = str(chain.orig)  # type: ignore[attr-defined] # looked for in the line above
        chain = chain.__cause__ or chain.__context__
    line = text.strip().split("\n", 1)[0]
    return quotable(line, str(mlflow.get_tracking_uri()))[:300] or type(error).__name__


def no_temporary_room(error: BaseException) -> str:
    """The folder of temporary files, where that is full and the error came of it; else empty.

    MLflow writes a model there before it goes anywhere, and the error does not say which disk is full.
    """
    return _full_temporary_folder() if is_no_room(error) else ""


def is_no_room(error: BaseException) -> bool:
    """Whether an error came of a disk of this machine that is full, whichever it is."""
    chain: BaseException | None = error
    while chain is not None:
        # What copies folders, and MLflow where it downloads several files, has reasons in words instead of a number.
        if getattr(chain, "errno", None) in _NO_ROOM or (
            isinstance(chain, (shutil.Error, MlflowException)) and _NO_ROOM_IN_TEXT.search(str(chain))
        ):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _full_temporary_folder() -> str:
    try:
        with tempfile.TemporaryFile() as probe:
            probe.write(bytes(_PROBE_BYTES))
    except OSError:
        return str(temporary_place())
    return ""


def is_outage(error: BaseException) -> bool:
    """Whether the same call may succeed later: no answer, 5xx, 429, an account that is refused now, a full disk."""
    if no_temporary_room(error):  # MLflow may call it a bad parameter
        return True
    status = status_of(error)
    return status is not None and (status >= 500 or status in _BUSY or status in _ACCOUNT)


def comes_of_outage(error: PccError) -> bool:
    """Whether what a step needed is away for now: a server, a database or a bucket, or room on a disk.

    A file of this machine that is not there is no outage: nobody brings it back by waiting.
    """
    cause: BaseException | None = error
    while isinstance(cause, PccError):
        cause = cause.__cause__
    if cause is None:
        return False
    here = isinstance(cause, OSError) and not isinstance(cause, RequestException | ConnectionError | TimeoutError)
    return is_no_room(cause) if here else is_outage(cause)


def is_account(error: BaseException) -> bool:
    """Whether the server refuses the account: waiting does not help, another password or token does."""
    return status_of(error) in _ACCOUNT


def ask(path: str, method: str = "GET", *, timeout: float = 4, **arguments: Any) -> Any:
    """One HTTP request to the tracking server, with its account, without MLflow's minutes of retries.

    Returns the response, whatever its status.

    Raises:
        MlflowException: no answer.
    """
    account = get_default_host_creds(mlflow.get_tracking_uri())
    return http_request(account, path, method, max_retries=0, timeout=timeout, raise_on_status=False, **arguments)


def is_server(address: str) -> bool:
    """Whether an MLflow address is a server's, rather than a database's."""
    return address.startswith(("http://", "https://"))


def server_answers(timeout: float = 3) -> bool:
    """Whether the tracking server answers at all; a database is taken to."""
    if not is_server(mlflow.get_tracking_uri()):
        return True
    try:
        return bool(ask("/health", timeout=timeout).status_code < 500)
    except MlflowException:
        return False
