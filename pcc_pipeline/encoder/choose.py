"""Which library runs the encoder: the fastest there that is exact enough, by a probe against float32.

A backend stands in a module of its own and is imported only where it is chosen. To add one, write a `Backend`, and name
it in `BackendChoice`, in `_candidates` and among the choices of `preprocessing.backend` (`config/schema.py`).
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from pcc_pipeline.encoder import probe
from pcc_pipeline.errors import FeatureError

logger = logging.getLogger(__name__)

BackendChoice = Literal["auto", "torch", "openvino"]
# The backend that the others are measured by, and the name under which its vectors are kept.
REFERENCE = "torch-float32"
# Where Linux tells what the processor can do, and its words for products of bfloat16: x86's two and ARM's.
_PROCESSOR_FILE, _BFLOAT16 = Path("/proc/cpuinfo"), {"avx512_bf16", "amx_bf16", "bf16"}
# Of the NVIDIA driver, of it under Windows' Linux, and of AMD's: torch is asked only where one is there, since its
# import takes seconds.
_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


class Backend(Protocol):
    """Something that computes vectors.

    Attributes:
        name: by what and how exactly, such as openvino-bfloat16.
        at_once: how many threads may call `encode` at a time.
    """

    name: str
    at_once: int

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`, at least one: float32 (len(texts), width), rows of unit length."""
        ...


def choose(
    choice: BackendChoice,
    folder: Path,
    digest: str,
    batch_size: int,
    cache_dir: Path | None,
    threads: int | None = None,
) -> Backend:
    """Load the backend for the encoder in `folder`.

    A backend other than the reference must reach a cosine of `probe.LOWEST_COSINE` to it on every text of the probe;
    one that does not is replaced by the reference, with a warning. Where one fails, whatever of, the next is tried.

    Args:
        choice: auto takes a GPU, in float32, else OpenVINO where it is installed and knows the encoder's kind, else
            bfloat16 by torch where the processor has it, else the reference.
        cache_dir: where the probe's vectors of an encoder other than the bundled one are kept; None computes them anew.
        threads: of the processor; None is one for each core.

    Raises:
        FeatureError: `choice` is openvino, and it is not installed, does not know the encoder's kind, or fails; or no
            backend runs here.
    """
    if choice == "torch":
        return _reference(folder, batch_size, threads)
    for name, load in _candidates(choice, folder, batch_size, threads):
        try:
            candidate = load()
            vectors = candidate.encode(probe.TEXTS)
        except Exception as error:  # a library, a driver, a locale or a limit: each raises its own
            if choice == "openvino":
                raise _refused(reason_of(error)) from error
            logger.warning("%s fails here (%s); the next backend is tried", name, reason_of(error))
            continue
        expected = probe.reference(digest, cache_dir, _reference_of(folder, batch_size, threads))
        cosine = probe.lowest_cosine(vectors, expected)
        if cosine >= probe.LOWEST_COSINE:
            logger.info("encoder runs by %s; cosine to float32 on the probe at least %.5f", candidate.name, cosine)
            return candidate
        logger.warning(
            "%s is not exact enough on this machine (cosine to float32 on the probe %.5f, at least %s is needed); "
            "encoder runs by %s",
            candidate.name,
            cosine,
            probe.LOWEST_COSINE,
            REFERENCE,
        )
        return _reference(folder, batch_size, threads)
    logger.info("encoder runs by %s", REFERENCE)
    return _reference(folder, batch_size, threads)


def reason_of(error: BaseException) -> str:
    """Why, in one line: for errors of libraries that are not about a customer's text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)}"[:300] if lines else type(error).__name__


def _candidates(
    choice: BackendChoice, folder: Path, batch_size: int, threads: int | None
) -> Iterator[tuple[str, Callable[[], Backend]]]:
    """Each backend that could be there, the fastest first, but for the reference."""
    if choice == "auto" and _gpu_is_there():
        yield "torch on the GPU", lambda: _gpu(folder, batch_size, threads)
    if (obstacle := _openvino_obstacle(folder)) is None:
        yield "OpenVINO", lambda: _openvino(folder, batch_size, threads)
    elif choice == "openvino":
        raise _refused(obstacle)
    else:
        logger.info("OpenVINO would run the encoder faster, but %s", obstacle)
    if _processor_has_bfloat16():
        yield "torch in bfloat16", lambda: _half(folder, batch_size, threads)


def _gpu(folder: Path, batch_size: int, threads: int | None) -> Backend:
    from pcc_pipeline.encoder.torch_backend import GpuBackend

    return GpuBackend(folder, batch_size, threads)


def _half(folder: Path, batch_size: int, threads: int | None) -> Backend:
    from pcc_pipeline.encoder.torch_backend import HalfBackend

    return HalfBackend(folder, batch_size, threads)


def _openvino(folder: Path, batch_size: int, threads: int | None) -> Backend:
    from pcc_pipeline.encoder.openvino_backend import OpenVinoBackend

    return OpenVinoBackend(folder, batch_size, threads)


def _reference(folder: Path, batch_size: int, threads: int | None) -> Backend:
    try:
        from pcc_pipeline.encoder.torch_backend import TorchBackend

        return TorchBackend(folder, batch_size, threads)
    except (ImportError, MemoryError, OSError, RuntimeError) as error:
        raise FeatureError(
            f"the encoder cannot be loaded by {REFERENCE}: {reason_of(error)}",
            where=str(folder),
            fix="give the process more memory (ulimit -v, the container's limit), or see that torch and "
            "sentence-transformers are installed whole and the encoder's files are sound",
        ) from error


def _reference_of(folder: Path, batch_size: int, threads: int | None) -> Callable[[Sequence[str]], np.ndarray]:
    """How the reference encodes; loaded when it is asked."""
    return lambda texts: _reference(folder, batch_size, threads).encode(texts)


def _refused(reason: str) -> FeatureError:
    return FeatureError(
        f"OpenVINO cannot run this encoder: {reason}",
        where="preprocessing.backend: openvino",
        fix="set preprocessing.backend to auto or torch, or mend what is said above",
    )


def _openvino_obstacle(folder: Path) -> str | None:
    if importlib.util.find_spec("openvino") is None:
        return "it is not installed (pip install -c constraints.txt -e '.[openvino]')"
    from pcc_pipeline.encoder.bert_folder import unknown_part

    return unknown_part(folder)


def _processor_has_bfloat16() -> bool:
    try:
        return not _BFLOAT16.isdisjoint(_PROCESSOR_FILE.read_text(encoding="utf-8").split())
    except OSError:
        return False


def _gpu_is_there() -> bool:
    if not any(Path(file).exists() for file in _GPU_FILES):
        return False
    try:
        import torch
    except (ImportError, OSError) as error:
        logger.warning("torch cannot be asked for the GPU: %s", reason_of(error))
        return False
    return torch.cuda.is_available()
