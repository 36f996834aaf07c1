"""Whether an account of the tracking server may read a registered model: the server is asked, as that account."""

from __future__ import annotations

from urllib.parse import urlsplit

import mlflow
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking.request_header.registry import resolve_request_headers
from mlflow.utils.credentials import get_default_host_creds
from requests.auth import HTTPBasicAuth

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.outages import is_server
from pcc_pipeline.tracking.registry.versions import shown_address

_SECONDS = 5


def may_read(name: str, username: str, password: str) -> bool:
    """Whether the server lets this account read the registered model.

    Raises:
        TrackingError: it does not answer, has too many logins to check, or MLflow is a database, which has no accounts.
    """
    address = mlflow.get_tracking_uri()
    if not is_server(address):
        raise TrackingError(
            "a database has no accounts",
            where=shown_address(),
            fix="set serving.accounts to tokens, or MLFLOW_TRACKING_URI to a server with accounts",
        )
    try:
        answer = _ask_as(username, password, address, name)
    except (OSError, ValueError, MlflowException) as error:
        raise TrackingError("no MLflow server answers", where=shown_address(), fix="see that it runs") from error
    if answer.status_code >= 500 or answer.status_code == 429:
        # 429 says nothing of the account: it has too many logins to check for now.
        raise TrackingError(
            f"the MLflow server does not tell ({answer.status_code})", where=shown_address(), fix="see its log"
        )
    return answer.status_code == 200 and _is_about(name, answer)


def _ask_as(username: str, password: str, address: str, name: str) -> requests.Response:
    """Ask for a registered model as this account and as nobody else, by the way that MLflow's own requests take.

    Of what this process has of its own, its certificates and proxies are used. An account in the address, one that a
    .netrc has for the host, and a cookie of an earlier answer would each stand in for the one that is to be checked.
    """
    own = get_default_host_creds(address)
    place = urlsplit(address)
    server = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path.rstrip('/')}"
    url = f"{server}/api/2.0/mlflow/registered-models/get"
    with requests.Session() as session:
        way = session.merge_environment_settings(url, {}, None, own.verify, own.client_cert_path)
        session.trust_env = False  # it holds for .netrc, which would also be read after a redirect
        return session.get(
            url,
            params={"name": name},
            headers=resolve_request_headers(),
            auth=HTTPBasicAuth(username.encode(), password.encode()),
            timeout=_SECONDS,
            **way,
        )


def _is_about(name: str, answer: requests.Response) -> bool:
    """Whether it is MLflow's answer: the login page of a proxy, where strangers are sent, has the same status."""
    try:
        return bool(answer.json()["registered_model"]["name"] == name)
    except (ValueError, KeyError, TypeError):
        return False
