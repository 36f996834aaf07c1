"""What a promotion ends: the alerts about the version that was champion before it, and its `pcc.alert`."""

from __future__ import annotations

from pcc_pipeline.config import Params
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.steps.records.alerts import tell_of_champion
from pcc_pipeline.tracking.registry.champion import Move
from pcc_pipeline.tracking.registry.versions import ALERT_TAG, VERSION_TAG, set_alert, versions_of


def end_alerts(params: Params, move: Move) -> list[str]:
    """End them, which is told; lines for the summary. The move stands, whatever becomes of this."""
    name = params.registry.model_name
    if move.is_none or move.before is None:
        return []
    try:
        tags = {str(version.version): version.tags for version in versions_of(name)}
        if ALERT_TAG in tags.get(move.before, {}):
            set_alert(name, move.before, "")
    except TrackingError as error:
        return [f"warning    the alerts about version {move.before} stand yet: {error.what}"]
    return tell_of_champion(params, tags.get(move.after, {}).get(VERSION_TAG, f"version {move.after}"))
