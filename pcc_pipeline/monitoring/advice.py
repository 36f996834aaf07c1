"""What to do about what is wrong with the model that serves, the most urgent first."""

from __future__ import annotations

from collections.abc import Collection

LOOK = "pcc monitor --data FILE"


def mending(kinds: Collection[str], *, watched: bool) -> list[str]:
    """What may mend alerts, each advice once.

    Args:
        kinds: the first parts of the alerts' metrics, such as `drift`.
        watched: whether `retrain.watch` is set, so that `pcc retrain` knows where to look.
    """
    retrain = f"pcc retrain{'' if watched else ' --watch FOLDER'}"
    advice = {
        "operation": "see why the model's own runs fail or do not come",
        "quality": "ask who writes the file what became of it",
        "observed": f"train on newer rows: {retrain}",
        "drift": f"have some of the new messages labelled, and train on them: {retrain}",
        "absence": f"look again: {LOOK}; see why its schedule does not",
    }
    # Labels of newer rows are there, so that nobody need be asked for them.
    idle = {"drift"} if "observed" in kinds else set()
    return [step for kind, step in advice.items() if kind in kinds and kind not in idle]
