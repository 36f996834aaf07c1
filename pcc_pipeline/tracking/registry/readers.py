"""Whether an account of the tracking server may read a registered model: the server is asked, as that account."""

from __future__ import annotations

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

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
    account = MlflowHostCreds(address, username=username, password=password)
    path = "/api/2.0/mlflow/registered-models/get"
    try:
        answer = http_request(
            account, path, "GET", params={"name": name}, max_retries=0, timeout=_SECONDS, raise_on_status=False
        )
    except MlflowException as error:
        raise TrackingError("no MLflow server answers", where=shown_address(), fix="see that it runs") from error
    if answer.status_code >= 500 or answer.status_code == 429:
        # 429 says nothing of the account: it has too many logins to check for now.
        raise TrackingError(
            f"the MLflow server does not tell ({answer.status_code})", where=shown_address(), fix="see its log"
        )
    return bool(answer.status_code == 200)
