"""A command names the module that answers it by a text, so that `--help` imports none: each must be there."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.util import find_spec

from pcc_pipeline.command_line import commands
from pcc_pipeline.command_line.commands.look_command import LookCommand
from pcc_pipeline.command_line.commands.manage_commands import ManageCommand
from pcc_pipeline.command_line.commands.step_commands import StepCommand

MODULES = [
    importlib.import_module(f"{commands.__name__}.{one.name}") for one in pkgutil.iter_modules(commands.__path__)
]


def named() -> dict[str, str]:
    """Each command's name and the module that it names."""
    named = {kind.__name__: f"steps.{kind.module}" for kind in LookCommand.__subclasses__()}
    values = [value for module in MODULES for value in vars(module).values()]
    while values:
        one = values.pop()
        # A command is a tuple as well.
        if isinstance(one, ManageCommand):
            named[f"manage {one.name}"] = f"manage.{one.module}"
        elif isinstance(one, StepCommand):
            named[one.name] = f"steps.{one.module}"
        elif isinstance(one, tuple):
            values += one
    return named


def test_every_module_that_a_command_names_is_there() -> None:
    modules = named()
    assert {"train", "manage retention", "manage audit", "ExplainCommand"} <= {*modules}
    assert {name: module for name, module in modules.items() if find_spec(f"pcc_pipeline.{module}") is None} == {}


def test_the_command_line_and_the_schema_have_the_names_of_what_there_is() -> None:
    """They have them once more, since neither `--help` nor a configuration waits for the libraries."""
    from pcc_pipeline.command_line.options import MODEL_TYPE
    from pcc_pipeline.config.schema import PreprocessingParams
    from pcc_pipeline.encoder.choose import BackendChoice
    from pcc_pipeline.model.families import FAMILIES

    assert MODEL_TYPE.choices == tuple(FAMILIES)
    assert PreprocessingParams.model_fields["backend"].annotation == BackendChoice
