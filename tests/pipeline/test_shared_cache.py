"""The cache that machines share: a text is encoded once for all, and forgotten for all; one that is away costs time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.caches.entries import text_key
from tests.pipeline.conftest import Store, said
from tests.postgres_server import postgres_server
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.pipeline

ROWS = 60
PASSWORD = "of-the-server"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server(requirepass=PASSWORD) as server:
        yield server


@pytest.fixture
def machine(new_store: Callable[[str], Store], server: RedisServer) -> Callable[[str], Path]:
    """A folder with its own MLflow and its own cache on disk, whose runs share the Redis."""
    return _maker(new_store, f"unix://:{PASSWORD}@{server.address.removeprefix('unix://')}")


def _maker(new_store: Callable[[str], Store], address: str) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        folder = new_store(name).folder
        rows = sample(ROWS)
        rows["case_id"] = [f"case-{number}" for number in range(ROWS)]
        rows.to_csv(folder / "cases.csv", index=False)
        (folder / "params.yaml").write_text(
            f"preprocessing: {{cache_dir: own, cache: '{address}'}}\n"
            "lineage: {key_file: lineage.key, suppression_file: suppressed.json}\nregistry: {gates: []}\n"
        )
        return folder

    return make


def encoded(folder: Path) -> tuple[pd.DataFrame, str]:
    done = said(folder, "embed", "--data", "cases.csv")
    assert done.code == 0, done.err
    (file,) = (folder / "outputs" / "embedded").glob("cases-*.parquet")
    return pd.read_parquet(file), done.out + done.err


def test_what_one_machine_encoded_another_reads(machine: Callable[[str], Path]) -> None:
    first, out = encoded(machine("first"))
    assert "0 from the cache" in out
    folder = machine("second")
    second, out = encoded(folder)
    assert re.search(r"(\d+) different texts, \1 from the cache, 0 rows rejected", out), out
    pd.testing.assert_frame_equal(first, second)
    assert not list((folder / "own").glob("*.sqlite")), "what is shared is kept in one place"
    for path in folder.rglob("*"):
        assert path.name == "params.yaml" or not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("setting", "parameter", "refusal"),
    [
        (
            "search.storage=postgresql+psycopg://u:S3/CR@127.0.0.1:1/db",
            ("search.storage", "postgresql+psycopg://u:***@127.0.0.1:1/db"),
            "study's storage cannot be used",
        ),
        (
            "preprocessing.cache=redis://u:S3/CR@127.0.0.1:1/0",
            ("preprocessing.cache", "redis://u:***@127.0.0.1:1/0"),
            "the address of the shared cache is none",
        ),
    ],
)
def test_a_password_with_a_slash_comes_to_rest_nowhere(
    new_store: Callable[[str], Store],
    setting: str,
    parameter: tuple[str, str],
    refusal: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = new_store("slash")
    sample(ROWS).to_csv(store.folder / "cases.csv", index=False)
    settings = f"lineage.suppression_file=suppressed.jsonl preprocessing.cache_dir=own model.cv_folds=2 {setting}"
    words = ("--data", "cases.csv", "--search-method", "optuna", "--n-iter", "2", "--set", settings)
    done = said(store.folder, "train", *words)
    assert done.code == 1
    assert refusal in done.err
    run = store.step("train")
    assert refusal in run.data.tags["pcc.error"]
    assert (parameter[0], run.data.params[parameter[0]]) == parameter
    texts = [caplog.text, done.out, done.err, *run.data.tags.values(), *run.data.params.values()]
    assert not [text for text in texts if re.search(r"\b(S3|CR)\b", text)]
    for path in store.folder.rglob("*"):
        assert not path.is_file() or b"S3/CR" not in path.read_bytes(), path


def test_one_that_is_away_changes_no_row(
    machine: Callable[[str], Path], server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    there, _ = encoded(machine("there"))
    server.kill()
    away, out = encoded(machine("away"))
    pd.testing.assert_frame_equal(there, away)
    assert caplog.text.count("the shared cache unix://:***@") == 1
    assert PASSWORD not in caplog.text
    assert "0 from the cache" in out


def test_an_erased_persons_texts_leave_it_and_one_that_is_away_holds_the_erasure_up(
    machine: Callable[[str], Path], server: RedisServer
) -> None:
    folder = machine("erased")
    assert said(folder, "lineage", "key").code == 0
    encoded(folder)
    texts = pd.read_csv(folder / "cases.csv").set_index("case_id")["text"]
    alone = texts[~texts.duplicated(keep=False)]
    own, others = alone.index[0], alone.index[1]
    client = server.client
    names = {case: b"pcc:vectors:" + text_key(texts[case]) for case in (own, others)}
    assert client.exists(*names.values()) == 2
    (folder / "case.txt").write_text(f"{own}\n")

    planned = said(folder, "erase", "--cases", "case.txt")
    assert planned.code == 0, planned.err
    assert "remove     1 message of theirs from the store of the numbers" in planned.out
    assert re.search(
        r"not looked into: what the shared store of numbers \(unix://:\*\*\*@\S+\) saved to", planned.out
    ), planned.out
    (number,) = re.findall(r"--confirm ([0-9a-f]{12})", planned.out)
    server.kill()
    halted = said(folder, "erase", "--cases", "case.txt", "--confirm", number)
    assert halted.code == 1
    assert "the shared cache of vectors cannot be used" in halted.err
    server.start(requirepass=PASSWORD)
    encoded(folder)
    assert client.exists(names[own]) == 1
    (number,) = re.findall(r"--confirm ([0-9a-f]{12})", said(folder, "erase", "--cases", "case.txt").out)
    done = said(folder, "erase", "--cases", "case.txt", "--confirm", number)
    assert done.code == 0, done.err
    assert [client.exists(name) for name in names.values()] == [0, 1]


def test_a_postgresql_is_shared_and_an_erased_persons_vector_leaves_its_files(
    new_store: Callable[[str], Store],
) -> None:
    with postgres_server() as database:
        machine = _maker(new_store, database.address)
        first, out = encoded(machine("one"))
        assert "0 from the cache" in out
        folder = machine("other")
        second, out = encoded(folder)
        assert re.search(r"(\d+) different texts, \1 from the cache, 0 rows rejected", out), out
        pd.testing.assert_frame_equal(first, second)
        assert said(folder, "lineage", "key").code == 0
        encoded(folder)
        texts = pd.read_csv(folder / "cases.csv").set_index("case_id")["text"]
        alone = texts[~texts.duplicated(keep=False)]
        own, others = (text_key(text) for text in alone[:2])
        assert own in database.contents()
        (folder / "case.txt").write_text(f"{alone.index[0]}\n")
        (number,) = re.findall(r"--confirm ([0-9a-f]{12})", said(folder, "erase", "--cases", "case.txt").out)
        done = said(folder, "erase", "--cases", "case.txt", "--confirm", number)
        assert done.code == 0, done.err
        assert (own in database.contents(), others in database.contents()) == (False, True)
