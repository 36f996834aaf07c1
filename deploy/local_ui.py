"""MLflow's UI on the local store, and the address in it that shows the runs; `make ui` calls this.

MLflow names its front page alone, which opens on what it calls GenAI and shows no runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from processes import HOST, is_free, status_of  # beside this file: found by the line above

READY_S = 240


def page(server: str, experiment: str) -> str:
    """What to open in the UI of this server: the runs of the experiment, or the list of experiments while it has none.

    Raises:
        PccError: the store that MLFLOW_TRACKING_URI names does not answer, or cannot be read.
    """
    from mlflow import MlflowClient

    from pcc_pipeline.tracking.registry.versions import asking
    from pcc_pipeline.tracking.store.experiments import runs_page

    with asking(f"experiment {experiment}"):
        known = MlflowClient().get_experiment_by_name(experiment)
    if known is None:
        return f"{server}/#/experiments (the experiment {experiment} has no runs yet: make run)"
    return runs_page(server, known.experiment_id)


def main(arguments: list[str] | None = None) -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description="MLflow's UI on the local store")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--experiment", default="pcc-intent", help="whose runs are shown")
    options = parser.parse_args(arguments)
    from pcc_pipeline.errors import PccError

    try:
        return _show(options.port, options.experiment)
    except PccError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _show(port: int, experiment: str) -> int:
    from pcc_pipeline.errors import TrackingError

    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking.startswith(("http://", "https://")):
        from pcc_pipeline.tracking.registry.versions import shown_address

        print("MLFLOW_TRACKING_URI names a server, which has a UI of its own")
        print(f"the runs:  {page(shown_address(), experiment)}")
        return 0
    server = f"http://{HOST}:{port}"
    if not is_free(port):
        raise TrackingError("another program listens there", where=server, fix="name another port: make ui PORT=5050")
    from pcc_pipeline.tracking.store.local_store import prepare

    prepare()
    opened = page(server, experiment)
    # One person looks at it: of MLflow's four processes one is enough, and there sooner.
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"]
    # Everybody on the machine sees command lines, and this address may hold a password.
    ui = subprocess.Popen(command, env={**os.environ, **({"MLFLOW_BACKEND_STORE_URI": tracking} if tracking else {})})
    # Ctrl-C reaches both, and MLflow ends by it; what else ends us is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: ui.send_signal(number))
    patience = time.monotonic() + READY_S
    while ui.poll() is None and time.monotonic() < patience:
        if status_of(f"{server}/health") == 200:
            print(f"\nthe runs:  {opened}\nend it:    Ctrl-C\n", flush=True)
            break
        time.sleep(0.2)
    return ui.wait()


if __name__ == "__main__":
    sys.exit(main())
