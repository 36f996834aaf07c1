"""What `pcc profile` and `pcc explain` share: they look at something by a configuration, and open no run."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from argparse import Namespace
from typing import TYPE_CHECKING, ClassVar

from pcc_pipeline.command_line.commands.step_commands import add_options, configuration
from pcc_pipeline.command_line.options import Option
from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.command_line.running import exit_code, imports, log, volume

if TYPE_CHECKING:
    from pcc_pipeline.config import Params


class LookCommand(ABC):
    """A command of `pcc` that is no entry point of MLproject.

    Attributes:
        module: of pcc_pipeline.steps, which is imported before `answer` is asked.
        options: those that it uses beside the parameter file and `--set`.
    """

    module: ClassVar[str]
    options: ClassVar[tuple[Option, ...]]

    def add_options(self, parser: Parser) -> None:
        """Make the options those of this parser."""
        add_options(parser, self.options)
        self.add_switches(parser)

    def add_switches(self, parser: Parser) -> None:
        """Options without a value; none unless a command has some."""
        return

    def run(self, options: Namespace) -> int:
        """Look, and print what there is to see; the exit code."""

        def answer() -> str:
            log(volume(options) or "WARNING")
            with imports():
                params = configuration(options, self.options)
                importlib.import_module(f"pcc_pipeline.steps.{self.module}")
            return self.answer(params, options)

        return exit_code(answer, debug=options.debug)

    @abstractmethod
    def answer(self, params: Params, options: Namespace) -> str:
        """What is printed."""
