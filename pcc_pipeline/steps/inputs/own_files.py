"""What a step writes replaces nothing that it reads, and nothing else that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pcc_pipeline.config.paths import local_output, local_path
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.storage.objects import BUCKET_SCHEME


def demand_own_files(inputs: Mapping[str, str | None], outputs: Mapping[str, str | Path]) -> None:
    """Compares files by their real paths, links followed.

    Args:
        inputs: the option that names a file -> its address; None, an object of a bucket, or `sample` is no file here.
        outputs: the option -> the file.

    Raises:
        ConfigError: two options lead to one file.
    """
    taken: dict[Path, str] = {}
    for option, address in inputs.items():
        for file in () if address is None else files_of(address):
            if not file.startswith(BUCKET_SCHEME):
                taken.setdefault(_real(file), option)
    for option, output in outputs.items():
        if (other := taken.setdefault(_real(output), option)) != option:
            raise ConfigError(
                f"{option} would replace the file of {other}",
                where=str(output),
                fix=f"set {option} to a file of its own",
            )


def demand_own_folder(inputs: Mapping[str, str | None], folder: str, option: str) -> None:
    """See that a folder that a data set is written into holds no file that is read.

    Raises:
        ConfigError: it does.
    """
    local = not folder.startswith(BUCKET_SCHEME)
    for name, address in inputs.items():
        for file in () if address is None else files_of(address):
            if file.startswith(BUCKET_SCHEME) == local:
                continue
            if _real(folder) in _real(file).parents if local else file.startswith(folder):
                raise ConfigError(
                    f"{option} would be written among the files of {name}",
                    where=folder,
                    fix=f"set {option} to a folder of its own",
                )


def own_page(name: str, data: str | None) -> Path:
    """The file that the option html names for a page.

    Args:
        data: the address of what the page tells of, which it must not replace; None where that is no file.

    Raises:
        ConfigError: it is no file of this machine, or that of the data.
    """
    page = local_output(name, "option html")
    demand_own_files({"data.path": data}, {"option html": page})
    return page


def _real(name: str | Path) -> Path:
    return local_path(name).resolve()
