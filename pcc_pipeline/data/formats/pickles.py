"""Pickled DataFrames without pickle's power: what frames are made of may be named, anything else is refused.

A pickle is a program. This reader hands it an explicit list of classes and of functions narrowed to what frames need,
so nothing else is imported, called or read. It guards against code, not against a forged state of a numpy dtype: for
strangers' files prefer parquet.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.core.indexes import base

from pcc_pipeline.data.columns import MAX_COLUMNS, too_many_columns
from pcc_pipeline.data.formats.bounds import Budget
from pcc_pipeline.errors import DataError

_FIX = "write the file as parquet; a .pkl may hold one DataFrame of strings, numbers, booleans, times and lists"


class _Restore(Protocol):
    def __call__(self, *parts: Any) -> Any: ...


class _EmptyArray:
    """Stands for numpy.ndarray, so that a pickle can start an array and not allocate one of any size."""


def _reconstruct(kind: object, shape: object, _typecode: object) -> np.ndarray[Any, Any]:
    if kind is not _EmptyArray or shape != (0,):
        raise pickle.UnpicklingError("an array of an unknown kind")
    return np.ndarray((0,), dtype="b1")


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _scalar(dtype: Any, value: Any) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufcmMUS":
        raise pickle.UnpicklingError("a scalar of an unknown kind")
    return (
        dtype.type(np.frombuffer(value, dtype=dtype)[0])
        if dtype.kind not in "US"
        else str(np.frombuffer(value, dtype)[0])
    )


def _dtype(spec: Any, *flags: Any) -> np.dtype[Any]:
    if not isinstance(spec, str) or not re.fullmatch(r"[<>|=]?[ObiufcmMUS]\d*", spec):
        raise pickle.UnpicklingError("an array of an unknown kind")
    return np.dtype(spec, *flags)


def _encode(text: Any, encoding: Any) -> bytes:
    # Protocol 2 writes bytes as text; other codecs would be looked up as modules.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in an unknown encoding")
    return text.encode("latin-1")


def _bytearray(*parts: Any) -> bytearray:
    if not parts:
        return bytearray()
    if isinstance(parts[0], str):
        return bytearray(_encode(*parts))
    if not isinstance(parts[0], (bytes, bytearray)):
        raise pickle.UnpicklingError("a buffer made from no bytes")
    return bytearray(parts[0])


def _bytes(*parts: Any) -> bytes:
    return bytes(_bytearray(*parts))


def _getattr(owner: object, name: object) -> Any:
    # How a ZoneInfo is pickled; it is the one attribute that a frame asks for.
    if owner is not ZoneInfo or name != "_unpickle":
        raise pickle.UnpicklingError("attribute access")
    return ZoneInfo._unpickle  # type: ignore[attr-defined] # typeshed leaves it out


def _arrow_array(*parts: Any) -> pa.Array:
    restore: _Restore = pa.lib._restore_array
    array = restore(*parts)
    array.validate(full=True)
    return array


def _slice(*parts: Any) -> slice:
    # Where a block's columns stand.
    if not all(part is None or isinstance(part, int) for part in parts):
        raise pickle.UnpicklingError("a slice by other than numbers")
    if any(part is not None and abs(part) > MAX_COLUMNS for part in parts):
        raise _TooManyColumnsError
    return slice(*parts)


_BUILTINS: dict[str, Any] = {"bytearray": _bytearray, "bytes": _bytes, "getattr": _getattr, "slice": _slice}
_REPLACED: dict[tuple[str, str], Any] = {
    **{(module, name): value for module in ("builtins", "__builtin__") for name, value in _BUILTINS.items()},
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _EmptyArray,
    ("numpy", "dtype"): _dtype,
    ("pyarrow.lib", "_restore_array"): _arrow_array,
    ("zoneinfo", "ZoneInfo"): ZoneInfo,
    # pandas 2 with pytz: the same zones without that package.
    ("pytz", "_UTC"): lambda: ZoneInfo("UTC"),
    ("pytz", "_p"): lambda zone, *_: ZoneInfo(zone),
    # The indexes of pandas 1, such as that of a filtered frame.
    **{("pandas.core.indexes.numeric", f"{name}Index"): pd.Index for name in ("Int64", "UInt64", "Float64")},
    # Renamed in pandas 3.
    ("pandas._libs.tslibs.nattype", "__nat_unpickle"): lambda *_: pd.NaT,
}
for _numpy in ("numpy._core", "numpy.core"):
    _REPLACED[f"{_numpy}.multiarray", "_reconstruct"] = _reconstruct
    _REPLACED[f"{_numpy}.multiarray", "scalar"] = _scalar
    _REPLACED[f"{_numpy}.numeric", "_frombuffer"] = _from_buffer

_MASKED = "Int8Dtype Int16Dtype Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype"
_ALLOWED: dict[str, str] = {
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    # pandas 3 writes public names.
    "pandas": "Index DatetimeIndex CategoricalIndex MultiIndex Categorical CategoricalDtype "
    f"StringDtype BooleanDtype DatetimeTZDtype Float32Dtype Float64Dtype {_MASKED} ArrowDtype NA NaT Timestamp",
    "pandas.arrays": "ArrowExtensionArray ArrowStringArray StringArray BooleanArray FloatingArray IntegerArray "
    "DatetimeArray TimedeltaArray",
    # pandas 2 writes where the class lives; pandas 3 still has these modules.
    "pandas.core.indexes.base": "Index",
    "pandas.core.indexes.multi": "MultiIndex",
    "pandas.core.indexes.category": "CategoricalIndex",
    "pandas.core.indexes.datetimes": "DatetimeIndex _new_DatetimeIndex",
    "pandas.core.internals.managers": "BlockManager",
    "pandas.core.arrays.categorical": "Categorical",
    "pandas.core.arrays.datetimes": "DatetimeArray",
    "pandas.core.arrays.timedeltas": "TimedeltaArray",
    "pandas.core.arrays.string_": "StringArray StringDtype",
    "pandas.core.arrays.string_arrow": "ArrowStringArray ArrowStringArrayNumpySemantics",
    "pandas.core.arrays.boolean": "BooleanArray BooleanDtype",
    "pandas.core.arrays.integer": f"IntegerArray {_MASKED}",
    "pandas.core.arrays.floating": "FloatingArray Float32Dtype Float64Dtype",
    "pandas.core.arrays.arrow.array": "ArrowExtensionArray",
    "pandas.core.dtypes.dtypes": "ArrowDtype CategoricalDtype DatetimeTZDtype",
    "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
    "pandas._libs.internals": "_unpickle_block",
    "pandas._libs.missing": "NA",
    "pandas._libs.tslibs.nattype": "_nat_unpickle",
    "pandas._libs.tslibs.timestamps": "Timestamp _unpickle_timestamp",
    "pandas._libs.tslibs.offsets": "Day Hour Minute Second",
    "pyarrow.lib": "field list_ large_list type_for_alias py_buffer",
}
_ADMITTED = frozenset((module, name) for module, names in _ALLOWED.items() for name in names.split())


class _FrameUnpickler(pickle.Unpickler):
    """Resolves only the names above; remembers the classes it handed out, to see whether the pickle altered one."""

    def __init__(self, file: BinaryIO, max_rows: int) -> None:
        super().__init__(file)
        self.before: dict[type, MappingProxyType[str, Any]] = {}
        self._bounded = _bounded(max_rows)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._bounded:
            return self._bounded[module, name]
        if (module, name) in _REPLACED:
            return _REPLACED[module, name]
        if (module, name) not in _ADMITTED:
            # The name is the author's, not a customer's, yet a forged one may hold anything.
            raise _Refused(re.sub(r"[^\w.]", "?", f"{module}.{name}")[:80])
        named = getattr(import_module(module), name)
        if isinstance(named, type):
            self.before.setdefault(named, MappingProxyType(dict(vars(named))))
            return named
        return _called(named) if callable(named) else named

    def restore_classes(self) -> bool:
        """Puts back what a forged state set on a class; True if there was any."""
        altered = False
        for kind, before in self.before.items():
            for name, value in dict(vars(kind)).items():
                if name not in before:
                    delattr(kind, name)
                    altered = True
                elif value is not before[name]:
                    setattr(kind, name, before[name])
                    altered = True
        return altered


def _bounded(max_rows: int) -> dict[tuple[str, str], Any]:
    """What could be called to make rows that the pickle does not hold; anew for each, as it may alter them."""

    class Frame:
        """A frame to fill; called with data, pandas' own would spread a scalar over an index."""

        def __new__(cls) -> Any:
            return object.__new__(pd.DataFrame)

    class Range:
        """Names pandas.RangeIndex, and cannot be called."""

        def __new__(cls) -> Any:
            raise pickle.UnpicklingError("a range outside an index")

    def new_index(kind: Any, parts: Any) -> pd.Index:
        if kind is not Range:
            index: pd.Index = base._new_Index(kind, parts)  # type: ignore[attr-defined] # private, and what pickles name
            return index
        if not 0 <= len(range(parts["start"], parts["stop"], parts["step"])) <= max_rows:
            raise _TooManyRowsError
        return pd.RangeIndex(parts["start"], parts["stop"], parts["step"], name=parts.get("name"))

    return {
        ("pandas", "DataFrame"): Frame,
        ("pandas.core.frame", "DataFrame"): Frame,
        ("pandas", "RangeIndex"): Range,
        ("pandas.core.indexes.range", "RangeIndex"): Range,
        ("pandas.core.indexes.base", "_new_Index"): new_index,
    }


class _TooManyRowsError(pickle.UnpicklingError):
    """Each row takes a byte of the file at least; an index of more rows is made up."""


class _TooManyColumnsError(pickle.UnpicklingError):
    """A block of more columns than a file may have."""


class _Refused(pickle.UnpicklingError):
    """A name outside the list."""


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    # A pickle may set attributes on what it gets; on this wrapper they reach nobody else.
    return lambda *parts: function(*parts)


def load_frame(path: Path) -> pd.DataFrame:
    """Reads the one DataFrame of a pickle of protocol 2 to 5, written by pandas 2 or 3.

    Raises DataError, before any of it runs, where the pickle names anything that a DataFrame is not made of.
    """
    size = path.stat().st_size
    too_many = DataError(f"the pickle of {size:,} bytes announces more rows than that", where=str(path), fix=_FIX)
    with path.open("rb") as file:
        unpickler = _FrameUnpickler(file, size)
        try:
            frame = unpickler.load()
        except _Refused as error:
            raise DataError(f"the pickle was refused: it asks for {error}", where=str(path), fix=_FIX) from None
        except _TooManyRowsError:
            raise too_many from None
        except _TooManyColumnsError:
            raise too_many_columns(path) from None
        except Exception:  # a damaged or forged pickle can raise anything, and its messages may quote values
            raise DataError(
                "the pickle cannot be read: it is damaged or holds more than a DataFrame", where=str(path), fix=_FIX
            ) from None
        finally:
            altered = unpickler.restore_classes()
    if altered:
        raise DataError("the pickle was refused: it alters classes of pandas", where=str(path), fix=_FIX)
    if type(frame) is not pd.DataFrame:
        raise DataError(f"the pickle holds a {type(frame).__name__}, not a DataFrame", where=str(path), fix=_FIX)
    try:
        if len(frame) > size:
            raise too_many
        if frame.shape[1] > MAX_COLUMNS:
            raise too_many_columns(path)
        if any(name is not None for name in frame.index.names):
            Budget(path).take(_index_bytes(frame.index))
            frame = frame.reset_index()
        return frame.copy()
    except DataError:
        raise
    except Exception:  # a forged frame can fail anywhere inside pandas
        raise DataError("the pickle's DataFrame is damaged", where=str(path), fix=_FIX) from None


def expanded_sizes(frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Bytes that each row takes, (n,), once every row has values of its own: a pickle holds a repeated one once."""
    sizes = np.zeros(len(frame), dtype=np.int64)
    known: dict[int, int] = {}
    for _, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            categories = np.array([*(_size(value, known) for value in column.cat.categories), 0], dtype=np.int64)
            sizes += categories[column.cat.codes]
        elif column.dtype == object:
            sizes += np.fromiter((_size(cell, known) for cell in column), dtype=np.int64, count=len(column))
    return sizes


def _size(value: object, known: dict[int, int]) -> int:
    """`known`: the sizes of containers by identity, so that nested repetition is counted and not walked through."""
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.nbytes
    if not isinstance(value, (list, tuple, dict, np.ndarray)):
        return 8
    if id(value) not in known:
        known[id(value)] = 0  # one that holds itself ends here
        parts = [*value, *value.values()] if isinstance(value, dict) else list(value)
        plain = set(map(type, parts)) <= {int, float, bool, type(None)}
        known[id(value)] = 8 * len(parts) + (0 if plain else sum(_size(part, known) for part in parts))
    return known[id(value)]


def _index_bytes(index: pd.Index) -> int:
    if not isinstance(index, pd.MultiIndex):
        return 0
    known: dict[int, int] = {}
    return sum(
        int(np.array([*(_size(value, known) for value in level), 0], dtype=np.int64)[np.asarray(codes)].sum())
        for level, codes in zip(index.levels, index.codes, strict=True)
    )
