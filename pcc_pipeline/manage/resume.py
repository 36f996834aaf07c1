"""`manage_models resume`: log to MLflow what earlier runs could not, because it was away."""

from __future__ import annotations

from pathlib import Path

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.tracking.delivery.catching_up import catch_up
from pcc_pipeline.tracking.delivery.preflight import demand_account, demand_server
from pcc_pipeline.tracking.payloads import json_text

_NAMED = {
    "log": "entries of runs",
    "nested": "trials",
    "model": "models",
    "describe": "pages of versions",
    "end": "ends of runs",
}


def resume(question: Question) -> str:
    """Write everything under `output.unlogged_dir` to MLflow, each thing once, and forget it. May be repeated.

    Raises:
        TrackingError: MLflow does not answer, or refuses some of it; that stays where it is.
    """
    root = Path(question.params.output.unlogged_dir)
    demand_server()
    demand_account()
    done = catch_up(root)
    if done.faults:
        text = "\n".join(f"  {fault}" for fault in done.faults)
        raise TrackingError(
            f"MLflow was not told everything; the rest stays on disk:\n{text}",
            where=str(root),
            fix="mend the cause and resume again; nothing is logged twice",
        )
    if question.as_json:
        return json_text({"logged": dict(done.counts), "models": done.lines, "still_running": done.busy})
    if not done.counts and not done.busy:
        return f"nothing to log: MLflow misses nothing of {root}"
    text = ", ".join(f"{number} {_NAMED[kind]}" for kind, number in sorted(done.counts.items())) or "nothing"
    waiting = [f"{done.busy} processes are still at work and log theirs themselves"] if done.busy else []
    return "\n".join([f"logged {text}", *done.lines, *waiting])
