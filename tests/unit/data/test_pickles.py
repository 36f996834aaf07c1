"""Frames come back from a pickle; anything else in it is refused before it runs."""

from __future__ import annotations

import base64
import datetime
import functools
import operator
import os
import pickle
import subprocess
import zlib
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pcc_pipeline.data.formats.pickles import _getattr, load_frame
from pcc_pipeline.errors import DataError

TIMES = pd.date_range("2025-01-06", periods=3)
FRAMES: dict[str, pd.DataFrame] = {
    "object strings": pd.DataFrame({"a": pd.Series(["x", None, "é漢"], dtype=object)}),
    "str": pd.DataFrame({"a": ["x", None, "é漢"]}),
    "python strings": pd.DataFrame({"a": pd.array(["x", None, "z"], dtype=pd.StringDtype("python"))}),
    "arrow strings": pd.DataFrame({"a": pd.array(["x", None, "z"], dtype=pd.StringDtype("pyarrow"))}),
    "arrow lists": pd.DataFrame({"a": pd.Series([[1.0], [2.0], None], dtype=pd.ArrowDtype(pa.list_(pa.float32())))}),
    "categorical": pd.DataFrame({"a": pd.Categorical(["x", "y", "x"])}),
    "times": pd.DataFrame({"a": TIMES}),
    "times in UTC": pd.DataFrame({"a": TIMES.tz_localize("UTC")}),
    "times in a zone": pd.DataFrame({"a": TIMES.tz_localize("Europe/Berlin")}),
    "times at an offset": pd.DataFrame({"a": TIMES.tz_localize(datetime.timezone(datetime.timedelta(hours=2)))}),
    "time objects": pd.DataFrame({"a": pd.Series([*TIMES.tz_localize("UTC")[:2], pd.NaT], dtype=object)}),
    "date objects": pd.DataFrame({"a": pd.Series([datetime.date(2025, 1, 6), datetime.datetime(2025, 1, 6), pd.NA])}),
    "embeddings as lists": pd.DataFrame({"a": [[0.5, 1.0], [2.0], []]}),
    "embeddings as arrays": pd.DataFrame({"a": [np.arange(3, dtype=kind) for kind in ("f4", "f8", "i8")]}),
    "numpy scalars": pd.DataFrame({"a": pd.Series([np.float32(0.5), np.int64(3), np.bool_(True)], dtype=object)}),
    "nullable": pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": pd.array([True, None, False])}),
    "plain numbers": pd.DataFrame({"a": [1.5, np.nan, 2], "b": [1, 2, 3], "c": [True, False, True]}),
    "an index of strings": pd.DataFrame({"a": [1, 2, 3]}, index=list("xyz")),
    "an index of times": pd.DataFrame({"a": [1, 2, 3]}, index=TIMES),
    "two index levels": pd.DataFrame({"a": [1, 2, 3]}, index=pd.MultiIndex.from_arrays([list("xyz"), [1, 2, 3]])),
    "selected rows": pd.DataFrame({"a": range(9), "b": list("abcdefghi")}).iloc[[7, 2, 4]],
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_survives_its_pickle(tmp_path: Path, name: str, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    FRAMES[name].to_pickle(path, protocol=protocol)
    pd.testing.assert_frame_equal(load_frame(path), FRAMES[name])


PANDAS_2 = """
eNqFVctu20YUJSXKyhO20yR2WyPx0llEgIMsgqKAE0tIkRBWgbSbFkgHQ3KkIUzOEOSwtoIYSBZ2YmBWybSfkE22+aB+QvsF7b1DsaJkt6EgzS
U193XOmctXnd9+7Tr20qsZFREteqHMWW+U05QZfXFAFX1s7ffmzmtzZLa0R9JxbvSt5vZYKJYLmhS9lAo6Znlh9JXdRIb7e9U9uG/pm1MXksRB
MfMxepmUIovD/YSRAJ1gt/6qGZ/mOZ0UvUDKhFGBsSvrET6fldYhEdRr9DVRptmkcgWT5XFo9GUyymUalKNRVc7vrapxx3WM7lgPWCM1ybBZ3Q
q2zenbN+aZ2fLb2n1phsPh07/hsj++o0zgt46NdvtGwSbIndJi3/Drs8COa/jXuInftluWSBWdX/m3gcE0HTRQBvpCUMaJigVA0imSOMR//CW/
67tYh9/CX35ZfzGHY4WN0RuEZJPDGZLDgUVnl4b7LMKObp2DaEgVG0vAhyaAUL9x9948vb30lzfEnPrLpqttopguRq80vBrtIB+X6vC4b31eMB
E7hCABLUBml4hgB+QJPgNn/lB3atsKriL1RoPUtASYbAugBZKzUIpC5WWo0P2m7kKiqTJ859j03cBURLqWjXXd+v7BjFy+MU/tDlB7+hwSX8XE
JGIJU7EE1XVlpogslWGwQ3sCj8WwPEGAujKPWA44n5bBogQgXbz93+lqJVUiOYJKA37Xb/ntedb5fb1xDoFQIlSXIsBXB1O7PhUzAvk3ern+98
efF1jyShErEDzKrqVeGH2hDgomLi+kwO38QF/EWwAE+EBo8YPhj+ELfT/hPsLN92qwAe4T2//eDG5Pu98uniWooo/prYurzIlBCvorjsPctZUP
a47z6d3HXz6s4eMaoLbvLQAEsK84zeuPnWr9c8cWMWpy/uYcEqpyLQ2QwPM7CwnO9Ne2Dj9YsbToNsBH7xm9ahXDNtPJJg1DWQoAd7lQMttUnG
2ylMYw88Dlu7rO/zHY2a5mV9XV/c905dXSQtViuPWFMO507TTDxp8Dq12HreBR2BHf5QPgkj8+C1X3uAaqG8KZJ3FktKfYIWCzhG8CBMmqq1A0
zWAkwJEexRETIc4HlgYsimIxBomuclqQDF4xEl4eJBYjWXX2U3UU+e78tKonTU7FGEM9w7UxXsAPhq2iuQJBaw95gpbQYGC4NiazZ9wjcG6gSp
wK9fuRpExRO5+ew8ymSsGb7wgn/SihY2uu0SSRBwWJygwmOhwsktCAgQLeFmXQ+wei3dIQ
"""


def test_a_frame_written_by_pandas_2_and_numpy_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(zlib.decompress(base64.b64decode(PANDAS_2)))
    frame = load_frame(path)
    assert frame["text"].tolist() == ["delete my account", "stop the emails"]
    assert frame["intent"].tolist() == ["data_deletion", "opt_out"]
    assert [len(row) for row in frame["embeddings"]] == [4, 4]
    assert frame["timestamp"].tolist() == [pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-02", tz="UTC")]


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.parts = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


MARK = "ran.txt"
MALICE: dict[str, Any] = {
    "os.system": Calls(os.system, f"touch {MARK}"),
    "os.mkdir": Calls(os.mkdir, MARK),
    "subprocess": Calls(subprocess.check_call, ["touch", MARK]),
    "eval": Calls(eval, f"open({MARK!r}, 'w')"),
    "exec": Calls(exec, f"open({MARK!r}, 'w')"),
    "open": Calls(open, MARK, "w"),
    "import": Calls(__import__, "antigravity"),
    "getattr": Calls(getattr, "", "upper"),
    "getattr of a class": Calls(getattr, pd.DataFrame, "to_csv"),
    "getattr by the allowed name": Calls(getattr, pd.DataFrame, "_unpickle"),
    "another attribute of a zone": Calls(getattr, zoneinfo.ZoneInfo, "from_file"),
    "type": Calls(type, "X", (), {}),
    "pandas.read_pickle": Calls(pd.read_pickle, "other.pkl"),
    "pandas.read_csv": Calls(pd.read_csv, "other.csv"),
    "pandas.eval": Calls(pd.eval, "1 + 1"),
    "numpy.load": Calls(np.load, "other.npy"),
    "numpy.fromfile": Calls(np.fromfile, "other.bin"),
    "numpy.memmap": Calls(np.memmap, MARK, "f4", "w+", 0, (1,)),
    "partial": Calls(functools.partial, print),
    "attrgetter": Calls(operator.attrgetter, "upper"),
    "methodcaller": Calls(operator.methodcaller, "upper"),
    "pickle.loads": Calls(pickle.loads, b"N."),
    "a method of a frame": Calls(pd.DataFrame.to_csv, pd.DataFrame(), MARK),
    "a path": Path(MARK),
}


def test_attributes_are_reached_on_no_other_class() -> None:
    """The one attribute that frames ask for, asked of a class that has it too."""
    with pytest.raises(pickle.UnpicklingError, match="attribute access"):
        _getattr(type("Forged", (), {"_unpickle": 1}), "_unpickle")


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", MALICE)
def test_a_pickle_that_calls_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"frame": FRAMES["str"], "more": MALICE[name]}, protocol=protocol))
    with pytest.raises(DataError, match=r"refused|cannot be read"):
        load_frame(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pkl"]


DOTTED = {
    "dotted name": ("pandas", "DataFrame.to_csv"),
    "through an allowed module": ("pandas", "io.common.os.system"),
    "module of an allowed class": ("pandas.core.frame", "sys.modules"),
    "a module that pandas imports": ("pandas.core.frame", "sys"),
    "dunder": ("pandas", "DataFrame.__init__.__globals__"),
}


@pytest.mark.parametrize(("module", "name"), DOTTED.values(), ids=DOTTED)
def test_no_attribute_is_reached_through_an_allowed_name(tmp_path: Path, module: str, name: str) -> None:
    path = tmp_path / "a.pkl"
    strings = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    path.write_bytes(b"\x80\x04" + strings + b"\x93.")
    with pytest.raises(DataError, match="refused: it asks for"):
        load_frame(path)


def test_a_forged_arrow_array_is_refused_before_its_buffers_are_read(tmp_path: Path) -> None:
    array = pa.array(["abc", "def"])
    kind, _length, *rest = array.__reduce__()[1][0]
    forged = Calls(array.__reduce__()[0], (kind, 10_000_000, *rest))
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(forged, protocol=4))
    with pytest.raises(DataError, match="cannot be read"):
        load_frame(path)


def test_a_pickle_that_alters_a_class_is_refused_and_the_class_put_back(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    # BUILD with a slot state sets an attribute on whatever stands on the stack, here the class itself.
    path.write_bytes(b"\x80\x02cpandas\nMultiIndex\nN}X\x05\x00\x00\x00forgeK\x01s\x86b.")
    with pytest.raises(DataError, match="alters classes of pandas"):
        load_frame(path)
    assert not hasattr(pd.MultiIndex, "forge")


@pytest.mark.parametrize("held", [{"a": [1]}, [1], None, pd.Series([1]).to_numpy(), "text"], ids=repr)
def test_only_a_frame_is_taken(tmp_path: Path, held: object) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(held))
    with pytest.raises(DataError, match=f"holds a {type(held).__name__}, not a DataFrame"):
        load_frame(path)


@pytest.mark.parametrize("several_kinds", [False, True])
def test_too_many_columns_are_said_to_be_just_that(tmp_path: Path, several_kinds: bool) -> None:
    frame = pd.DataFrame(np.zeros((2, 10_001))).add_prefix("c")
    # Of one kind they are one block under one slice; of two, blocks that name the places of their columns.
    if several_kinds:
        frame[frame.columns[::2]] = frame[frame.columns[::2]].astype("int64")
    path = tmp_path / "a.pkl"
    frame.to_pickle(path)
    with pytest.raises(DataError, match="more than 10,000 columns") as caught:
        load_frame(path)
    assert caught.value.fix == "keep vectors as one column of lists"
