"""A reference profile as bytes and back: an npz archive of numbers and one JSON text, read without pickle."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from pcc_pipeline.errors import ModelError
from pcc_pipeline.monitoring.change.drift import Chance
from pcc_pipeline.monitoring.change.learned_space import LearnedSpace
from pcc_pipeline.monitoring.change.sketches import Sketcher
from pcc_pipeline.monitoring.estimates import Estimators
from pcc_pipeline.monitoring.profile import ReferenceProfile
from pcc_pipeline.monitoring.usual import Usual

NAME = "reference_profile.npz"
# Form 1, of the releases before, does not say what is usual.
_FORMAT, _READ = 2, (1, 2)


def to_bytes(profile: ReferenceProfile) -> bytes:
    """The profile as a file's content; the same profile gives the same bytes."""
    sketcher, chance = profile.sketcher, profile.chance
    facts = {
        "format": _FORMAT,
        "model_version": profile.model_version,
        "encoder_digest": profile.encoder_digest,
        "classes": profile.classes,
        "source": profile.source,
        "rows": profile.rows,
        "estimators": vars(profile.estimators),
        "novel_above": profile.novel_above,
        "novelty_scales": sketcher.novelty_scales,
        "statistics": chance.names,
        "figures": dict(profile.figures),
        "usual": None if profile.usual is None else profile.usual.document(),
        **({} if profile.since is None else {"since": profile.since}),
    }
    arrays: dict[str, np.ndarray] = {
        "facts": np.frombuffer(json.dumps(facts, ensure_ascii=False).encode(), dtype=np.uint8),
        "confusion": profile.confusion,
        "space.center": profile.space.center.astype(np.float16),
        "space.basis": profile.space.basis.astype(np.float16),
        "space.prototypes": profile.space.prototypes.astype(np.float16),
        "sketcher.classes": sketcher.classes,
        "sketcher.class_edges": sketcher.class_edges,
        "sketcher.scales": sketcher.scales,
        **{f"edges.{name}": edges for name, edges in sketcher.edges.items()},
        **{f"reference.{name}": block.astype(np.float32) for name, block in profile.reference.items()},
        **{f"chance.{size}": draws.astype(np.float16) for size, draws in chance.draws.items()},
    }
    content = io.BytesIO()
    # numpy's own savez writes the time of the writing.
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def from_bytes(content: bytes, where: str) -> ReferenceProfile:
    """The profile that `to_bytes` wrote.

    Raises:
        ModelError: it is none, or of a later pcc_pipeline.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(arrays["facts"].tobytes().decode())
        known = facts["format"] in _READ
        profile = _profile(facts, arrays) if known else None
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise ModelError(
            f"this is no reference profile, or a damaged one ({type(error).__name__})",
            where=where,
            fix="train again, or evaluate the version again, to have a new one",
        ) from error
    if profile is None:
        raise ModelError(
            f"this reference profile has the form {facts['format']}, and this pcc_pipeline reads {_READ[-1]} at most",
            where=where,
            fix="use the pcc_pipeline that wrote it, or train again",
        )
    return profile


def _profile(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ReferenceProfile:
    def under(prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    scales = facts["novelty_scales"]
    return ReferenceProfile(
        model_version=facts["model_version"],
        encoder_digest=facts["encoder_digest"],
        classes=tuple(facts["classes"]),
        source=facts["source"],
        space=LearnedSpace(**{name: array.astype(np.float32) for name, array in under("space.").items()}),
        sketcher=Sketcher(
            n_classes=len(facts["classes"]),
            edges=under("edges."),
            classes=arrays["sketcher.classes"],
            class_edges=arrays["sketcher.class_edges"],
            scales=arrays["sketcher.scales"],
            novelty_scales=None if scales is None else tuple(scales),
        ),
        reference={name: block.astype(np.float64) for name, block in under("reference.").items()},
        rows=facts["rows"],
        chance=Chance(
            tuple(facts["statistics"]),
            {int(size): draws.astype(np.float64) for size, draws in under("chance.").items()},
        ),
        estimators=Estimators(**facts["estimators"]),
        novel_above=facts["novel_above"],
        confusion=arrays["confusion"],
        figures=facts["figures"],
        usual=None if facts.get("usual") is None else Usual.of_document(facts["usual"]),
        since=facts.get("since"),
    )
