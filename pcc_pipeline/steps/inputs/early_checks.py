"""The files that a step is given, looked at before anything slow begins: the encoder, a model, a search."""

from __future__ import annotations

from collections.abc import Sequence

from pcc_pipeline.data.contract import Contract, ContractChecker
from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.errors import NoRowsError, StorageError
from pcc_pipeline.steps.inputs.addresses import SAMPLE, files_of
from pcc_pipeline.storage.objects import BUCKET_SCHEME, local_copy, open_store


def demand_input(address: str | None, contract: Contract | None = None, *, may_be_empty: bool = False) -> None:
    """See that there is something to read at `address`, and that it has the columns that `contract` demands.

    A file on this machine is opened and its first row read; a pickle, which can only be read whole, and an object of a
    bucket, which would be fetched twice, are looked for only. None is nothing to look at.

    Args:
        may_be_empty: there need be no row; nor in one of several files.

    Raises:
        DataError: there is no such file, it is empty, of no kind that is known, or lacks columns.
        StorageError: the bucket cannot be read or has no such object.
    """
    if address is not None:
        demand_files(files_of(address), contract, may_be_empty=may_be_empty)


def demand_files(files: Sequence[str], contract: Contract | None = None, *, may_be_empty: bool = False) -> None:
    """The same of files as `files_of` names them: their names are no lists and no patterns, whatever they hold."""
    for file in files:
        try:
            _demand_one(file, contract)
        except NoRowsError:
            if len(files) == 1 and not may_be_empty:
                raise


def demand_bucket(address: str) -> None:
    """See that the bucket of an object that is to be written can be asked.

    Raises:
        StorageError: it cannot, or the address names no object.
    """
    folder, _, name = address.rpartition("/")
    if not name or not folder.startswith(BUCKET_SCHEME):
        raise StorageError("the address names no object", where=address, fix="write gs://bucket/path/file.parquet")
    open_store(folder).names(name)


def _demand_one(address: str, contract: Contract | None) -> None:
    if address == SAMPLE:
        first = sample()
    elif address.startswith(BUCKET_SCHEME):
        parent, _, name = address.rpartition("/")
        if name and parent.startswith(BUCKET_SCHEME) and name not in open_store(parent).names(name):
            raise StorageError("there is no such object or bucket", where=address, fix="check the address")
        return
    elif "://" in address:
        return
    else:
        with local_copy(address) as path:
            batches = read_batches(path, 1)
            if path.name.lower().endswith(".pkl"):
                return
            first = next(batches)
    if contract is not None:
        ContractChecker(contract, source=address).check(first.iloc[:1])
