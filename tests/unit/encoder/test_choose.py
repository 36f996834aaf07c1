"""The backend that runs the encoder: the fastest that is there, checked, and recorded as what it is."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcc_pipeline.encoder import bert_folder, probe
from pcc_pipeline.encoder import choose as backends
from pcc_pipeline.encoder.caches.on_disk import EmbeddingCache
from pcc_pipeline.encoder.choose import REFERENCE, choose
from pcc_pipeline.encoder.embed_texts import embed
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.encoder.token_batches import token_batches
from pcc_pipeline.errors import FeatureError

with_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed: pip install -e '.[openvino]'"
)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen on a processor; tests/contract/test_encoders.py runs on a GPU where there is one."""
    monkeypatch.setattr(backends, "_GPU_FILES", ())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def folder() -> Path:
    return SentenceEncoder().folder


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy of the encoder's folder that a test may spoil."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


@with_openvino
def test_auto_takes_openvino_and_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    chosen = choose("auto", folder, SentenceEncoder().digest, 32, None)
    assert chosen.name.startswith("openvino-")
    # 1.00000 where the processor has no bfloat16 and OpenVINO takes float32.
    line = rf"encoder runs by {chosen.name}; cosine to float32 on the probe at least (0\.9999|1\.0000)"
    assert re.search(line, caplog.text)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("flags : fpu avx512_bf16 sse", "torch-bfloat16"),
        pytest.param("flags : fpu amx_bf16", "torch-bfloat16", marks=pytest.mark.long),
        pytest.param("Features : asimd bf16", "torch-bfloat16", marks=pytest.mark.long),
        ("flags : fpu avx512f", REFERENCE),
        (None, REFERENCE),
    ],
)
def test_without_openvino_auto_takes_torch_in_the_processors_best_precision_and_says_why(
    flags: str | None,
    name: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(backends, "_PROCESSOR_FILE", tmp_path / "cpuinfo")
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags)
    assert choose("auto", folder, SentenceEncoder().digest, 32, None).name == name
    assert "OpenVINO would run the encoder faster, but it is not installed (pip install" in caplog.text
    assert f"encoder runs by {name}" in caplog.text
    with pytest.raises(FeatureError, match=r"(?s)cannot run this encoder: it is not installed.*backend: openvino"):
        choose("openvino", folder, "0" * 64, 32, None)


@with_openvino
def test_a_backend_that_is_not_exact_enough_is_replaced_with_a_warning(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it is measured by is spoilt here, so that a sound backend fails the check."""
    digest = "ab" * 32
    kept = np.load(probe.shipped_file(SentenceEncoder().digest))
    kept[3] = kept[4]
    np.save(tmp_path / probe.file_name(digest), kept)
    assert choose("auto", folder, digest, 32, tmp_path).name == REFERENCE
    assert "is not exact enough on this machine (cosine to float32 on the probe 0." in caplog.text


@with_openvino
def test_where_openvino_fails_the_next_backend_runs_and_a_line_says_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it fails of: here it refuses an option of ours, in its own words."""
    from pcc_pipeline.encoder import openvino_backend

    monkeypatch.setattr(openvino_backend, "_OPTIONS", {"NO_SUCH_OPTION": "1"})
    monkeypatch.setattr(backends, "_PROCESSOR_FILE", tmp_path / "cpuinfo")
    digest = SentenceEncoder().digest
    assert choose("auto", folder, digest, 32, None).name == REFERENCE
    (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert re.match(r"OpenVINO fails here \(.*NO_SUCH_OPTION.*\); the next backend is tried", said)
    assert "\n" not in said
    with pytest.raises(
        FeatureError, match=r"(?s)OpenVINO cannot run this encoder: .*NO_SUCH_OPTION.*backend: openvino"
    ):
        choose("openvino", folder, digest, 32, None)


@pytest.fixture(scope="module")
def turkish(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in Turkish, whose lower-case I is another letter."""
    place = tmp_path_factory.mktemp("locales")
    if not shutil.which("localedef"):
        pytest.skip("localedef is not here, to make a Turkish locale")
    made = subprocess.run(
        ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(place / "tr_TR.UTF-8")], capture_output=True, text=True
    )
    if not (place / "tr_TR.UTF-8").is_dir():
        pytest.skip(f"no Turkish locale can be made here: {made.stderr.strip()}")
    return os.environ | {"LOCPATH": str(place), "LC_ALL": "tr_TR.UTF-8"}


def _in_a_process(backend: str, environment: dict[str, str], before: str = "") -> subprocess.CompletedProcess[str]:
    code = (
        "import logging\nfrom pcc_pipeline.encoder.sentence_encoder import SentenceEncoder\n"
        f"logging.basicConfig(level='INFO')\n{before}\n"
        f"encoder = SentenceEncoder(backend='{backend}')\nprint(encoder.backend, encoder.encode(['a text']).shape)\n"
    )
    environment = environment | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)


@with_openvino
def test_openvino_runs_in_turkish(turkish: dict[str, str]) -> None:
    done = _in_a_process("openvino", turkish)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("openvino-")


@pytest.mark.long
@with_openvino
@pytest.mark.skipif(not Path("/sys/devices/system/cpu").is_dir(), reason="without /sys OpenVINO asks for no such name")
def test_openvino_itself_still_fails_in_turkish(turkish: dict[str, str]) -> None:
    """OpenVINO 2026.4 compares names by the locale's letters. Once it does not, `_plain_letters` is not needed."""
    without = (
        "import contextlib\nfrom pcc_pipeline.encoder import openvino_backend\n"
        "openvino_backend._plain_letters = contextlib.nullcontext"
    )
    done = _in_a_process("auto", turkish, without)
    assert done.returncode == 0, done.stderr
    assert "is not a member of enum" in done.stderr
    assert done.stdout.startswith("torch-")


@with_openvino
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not hold a process to RLIMIT_AS")
def test_under_a_limit_of_memory_a_backend_runs_or_one_message_says_what_to_do() -> None:
    """From limits that nothing can work under to those that all can, for each choice."""
    ended = set()
    for megabytes in (600, 800, 1000, 1400):
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20}, {megabytes << 20}))"
        done = _in_a_process("auto", dict(os.environ), limit)
        last = done.stderr.strip().splitlines()[-3:]
        ended.add(done.returncode)
        assert done.returncode == 0 or any("FeatureError" in line for line in last), (megabytes, done.stderr)
    assert 0 in ended


@with_openvino
def test_a_run_by_openvino_loads_no_torch_and_reports_nothing_to_its_maker() -> None:
    """`import openvino` by itself sends a report of the import over the network."""
    code = (
        "import sys\nfrom pcc_pipeline.encoder.sentence_encoder import SentenceEncoder\n"
        "print(SentenceEncoder(backend='openvino').encode(['a text']).shape)\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'transformers', 'sentence_transformers', 'openvino_telemetry'}, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "(1, 384)"), done.stderr


def test_the_vectors_that_the_probe_expects_are_those_of_float32() -> None:
    encoder = SentenceEncoder()
    shipped = np.load(probe.shipped_file(encoder.digest))
    np.testing.assert_allclose(shipped, encoder.encode(probe.TEXTS), atol=1e-5)


def test_another_encoders_probe_is_computed_once(tmp_path: Path) -> None:
    """Each computation gives other numbers here, so that those of the file are told from new ones."""
    computed: list[np.ndarray] = []

    def compute(texts: Sequence[str]) -> np.ndarray:
        computed.append(np.random.default_rng(len(computed)).normal(size=(len(texts), 4)).astype(np.float32))
        return computed[-1]

    def reference(folder: Path | None, digest: str = "cd" * 32) -> np.ndarray:
        return probe.reference(digest, folder, compute)

    first, again = reference(tmp_path), reference(tmp_path)
    assert len(computed) == 1
    assert np.array_equal(first, again)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-10])
    assert np.array_equal(reference(tmp_path), computed[1]), "a file cut short is made again"
    assert np.array_equal(reference(tmp_path), computed[1])
    assert list(tmp_path.iterdir()) == [kept]
    assert np.array_equal(reference(tmp_path, "ef" * 32), computed[2]), "each encoder has a file of its own"
    assert np.array_equal(reference(None), computed[3]), "without a folder nothing is kept"
    assert len(computed) == 4


def test_the_lowest_cosine_is_that_of_the_worst_row() -> None:
    table = np.eye(3, dtype=np.float32)
    assert probe.lowest_cosine(table, table * 7) == pytest.approx(1.0)
    assert probe.lowest_cosine(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(
        2**-0.5
    )
    assert probe.lowest_cosine(table[:2], table) == -1.0
    assert probe.lowest_cosine(np.full((3, 3), np.nan), table) == -1.0


def _json(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**found, **changes}))

    return change


def _without_pooling(folder: Path) -> None:
    found = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([found[0], found[2]]))


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no pooling": (_without_pooling, "consists of Transformer, Normalize"),
    "pooling by the first token": (
        _json("1_Pooling/config.json", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False),
        "otherwise than by the mean",
    ),
    "two poolings": (_json("1_Pooling/config.json", pooling_mode_max_tokens=True), "otherwise than by the mean"),
    "another kind": (_json("config.json", model_type="mpnet"), "model_type is 'mpnet' and not 'bert'"),
    "another activation": (_json("config.json", hidden_act="gelu_new"), "hidden_act is 'gelu_new'"),
    "relative positions": (_json("config.json", position_embedding_type="relative_key"), "position_embedding_type"),
    "a prompt": (_json("config_sentence_transformers.json", default_prompt_name="query"), "a prompt before each text"),
    "lower case": (_json("sentence_bert_config.json", do_lower_case=True), "lowers the case"),
    "no length": (_json("sentence_bert_config.json", max_seq_length=None), "max_seq_length is not told"),
    "too long": (_json("sentence_bert_config.json", max_seq_length=513), "max_seq_length is not told"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no readable model.safetensors"),
    "weights cut short": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{"),
        "no readable model.safetensors",
    ),
    "broken JSON": (lambda folder: (folder / "config.json").write_text("{"), r"no readable config.json"),
}


@pytest.mark.parametrize(("spoil", "says"), SPOILT.values(), ids=SPOILT)
def test_an_encoder_of_another_kind_is_left_to_torch(copied: Path, spoil: Callable[[Path], None], says: str) -> None:
    assert bert_folder.unknown_part(copied) is None
    spoil(copied)
    assert says in (bert_folder.unknown_part(copied) or "")
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        bert_folder.bert_folder(copied)


@with_openvino
def test_vectors_of_different_backends_are_kept_apart(tmp_path: Path) -> None:
    exact, fast = SentenceEncoder(), SentenceEncoder(backend="openvino")
    assert exact.space == exact.digest
    assert fast.space == f"{fast.digest}-{fast.backend}"
    for encoder in (fast, exact, fast):
        with EmbeddingCache(tmp_path, encoder.space, SENTENCE_WIDTH) as cache:
            vectors, counts = embed(["one text"], encoder, cache)
            np.testing.assert_array_equal(vectors, encoder.encode(["one text"]))
    assert counts.hits == 1


def test_a_released_encoder_encodes_again() -> None:
    encoder = SentenceEncoder(backend="auto")
    before = encoder.encode(["one text"])
    name = encoder.backend
    encoder.release()
    assert encoder.backend == name
    np.testing.assert_array_equal(encoder.encode(["one text"]), before)


def test_torch_is_asked_for_a_graphics_card_only_where_a_driver_is() -> None:
    """Importing it takes seconds and hundreds of megabytes."""
    code = (
        "import sys\nfrom pcc_pipeline.encoder import choose\n"
        "for files in ('/nowhere/at/all',), ('/nowhere/at/all', '/dev/null'):\n"
        "    choose._GPU_FILES = files\n"
        "    choose._gpu_is_there()\n"
        "    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("budget", [1, 64, 1000])
def test_batches_hold_every_text_once_and_keep_the_budget(budget: int, equal: bool) -> None:
    lengths = np.random.default_rng(0).integers(1, 90, size=500)
    batches = list(token_batches(lengths, budget, equal=equal))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch, most in zip(batches, longest, strict=True):
        assert len(batch) == 1 or len(batch) * most <= budget
        assert not equal or len(set(lengths[batch])) == 1
    assert list(token_batches(np.array([], dtype=np.int64), budget, equal=equal)) == []


def test_batches_are_as_large_as_the_budget_allows() -> None:
    assert [len(batch) for batch in token_batches(np.full(10, 8), 32, equal=True)] == [4, 4, 2]
    assert [len(batch) for batch in token_batches(np.array([8, 7, 7, 6, 2]), 32, equal=False)] == [4, 1]
    assert [len(batch) for batch in token_batches(np.array([8, 7, 7, 6, 2]), 32, equal=True)] == [1, 2, 1, 1]
