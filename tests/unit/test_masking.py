"""What is secret in an address is shown nowhere; an address without secrets is shown as it is."""

from __future__ import annotations

import os
import pickle

import pytest

from pcc_pipeline.errors import DataError
from pcc_pipeline.masking import masked, masked_in, quotable


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql+psycopg://u:my/pass@h:5432/db", "postgresql+psycopg://u:***@h:5432/db"),
        ("redis://user:pa/ss@h:6379/0", "redis://user:***@h:6379/0"),
        ("redis://:4321/cret@h:6379", "redis://:***@h:6379"),
        ("redis:/u:pw@h/0", "redis:/u:***@h/0"),
        ("postgresql://u:p@ss@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p?w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p#w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://me@corp:pw@h/db", "postgresql://me@corp:***@h/db"),
        ("postgresql://corp/me:pw@h/db", "postgresql://corp/me:***@h/db"),
        ("unix://:p/w@/a/b.sock?db=1", "unix://:***@/a/b.sock?db=1"),
        ("s3://name:sec/ret@bucket/x", "s3://name:***@bucket/x"),
        ("rediss://h:1/0?ssl_password=pw", "rediss://h:1/0?ssl_password=***"),
        ("redis://h/0?username=u&PassWd=pw&db=1", "redis://h/0?username=u&PassWd=***&db=1"),
        ("redis://h/0?pass%77ord=pw", "redis://h/0?pass%77ord=***"),
        ("redis://h/0?db=1;pwd=pw", "redis://h/0?db=1;pwd=***"),
        ("postgresql://h/db?user=u&password=se&cret", "postgresql://h/db?user=u&password=***"),
        ("postgresql://h/db?password=se#cret", "postgresql://h/db?password=***#***"),
        ("gs://b/x?access_token=t&sslkey=k&client_secret=s", "gs://b/x?access_token=***&sslkey=***&client_secret=***"),
        ("https://h/x?X-Goog-Signature=abc&X=1", "https://h/x?X-Goog-Signature=***&X=1"),
        ("redis://h/0?x=1#password=pw", "redis://h/0?x=1#***"),
        # Where the last @ may be the password's or a secret's behind it, all is hidden.
        ("redis://u:pw@h/0?password=se@cret", "redis://u:***"),
        ("redis://u:pw@h/0#se@cret", "redis://u:***"),
        # Of a page the account goes whole: GitHub and others take a token as its name.
        ("http://me:S3/CR@h:5000/a?b=c", "http://h:5000/a?b=c"),
        ("http://me:1234/5@h:5000", "http://h:5000"),
        ("https://token@h/a", "https://h/a"),
    ],
)
def test_what_is_secret_in_an_address_is_hidden(address: str, shown: str) -> None:
    assert masked(address) == masked(masked(address)) == shown


@pytest.mark.parametrize(
    "address",
    [
        "gs://bucket/a@b",
        "gs://bucket/12:30/a@b#c",
        "models:/name@champion",
        "runs:/abc/model",
        "mlflow-artifacts:/1/a:b@c",
        "C:\\data\\a:b@c.csv",
        "C:/data/a:b@c.csv",
        "file:///C:/data/a:b@c#d.csv",
        "file://C:/data/a@b.csv",
        "sqlite:///a:b@c#d.db",
        "sqlite:////folder/a@b/c:d@e.db",
        "sqlite:///file:studies.db?mode=ro&uri=true",
        "http://localhost:5000/models/name@champion",
        "http://127.0.0.1:5000/#/experiments/1",
        "http://h:5000/x?email=a@b",
        "postgresql+psycopg://u@h:5432/db",
        "postgresql://h:5432/db?user=me@corp",
        "postgresql://u@h1:5432,h2:5433/db?user=me@corp",
        "postgresql://u@/db?host=/sockets",
        "redis://[::1]:6379/0?client_name=a@b",
        "unix:///sockets/a:b@c.sock",
        "tcp://127.0.0.1:8786",
        "studies/a@b:c@d.log",
        "in:box@host",
        "",
    ],
)
def test_an_address_without_a_secret_stays_as_it_is(address: str) -> None:
    assert masked(address) == masked_in(address) == address


def test_addresses_in_a_text_are_masked_one_by_one() -> None:
    text = "GET http://me:pw@h/a failed, models:/x@champion (redis://:a/b@c) and a@b stay"
    assert masked_in(text) == "GET http://h/a failed, models:/x@champion (redis://:***@c) and a@b stay"


@pytest.mark.parametrize(
    ("line", "address", "quoted"),
    [
        ("no host 'ss@h'", "postgresql://u:p@ss@h/db", ""),
        ("Port could not be cast to integer value as 'PA'", "redis://u:pa/ss@h/0", ""),
        ("cannot parse redis://u:p%2Fw@h/0", "redis://u:p%2Fw@h/0", "cannot parse redis://u:***@h/0"),
        ("no account u:p/w", "redis://u:p%2Fw@h/0", ""),
        ("cannot parse postgresql://u:a b@h/db", "postgresql://u:a b@h/db", "cannot parse postgresql://u:***@h/db"),
        ("port 1 at h refused u", "postgresql://u:p@h:1/db", "port 1 at h refused u"),
        ("no such table", "", "no such table"),
    ],
)
def test_a_library_is_quoted_where_it_holds_no_part_of_a_secret(line: str, address: str, quoted: str) -> None:
    assert quotable(line, address) == quoted


def test_an_error_repeats_no_secret_of_an_address_that_it_names() -> None:
    error = DataError("no rows in redis://u:a/b@h", where="gs://bucket/a@b?token=t", fix="write redis://u:password@h")
    copy = pickle.loads(pickle.dumps(error))
    said = ["no rows in redis://u:***@h", "  where: gs://bucket/a@b?token=***", "  do:    write redis://u:password@h"]
    assert str(error).splitlines() == str(copy).splitlines() == said


def test_an_error_can_be_written_whatever_bytes_a_file_is_called_by() -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    error = DataError(f"cannot read {name}", where=name, fix=f"rename {name}")
    assert str(error).encode().decode().count(r"caf\udce9.csv") == 3
    assert error.args == (error.what,)
