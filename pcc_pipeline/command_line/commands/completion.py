"""What a shell completes after `pcc`: a script that is made from the parser, by shtab."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.command_line.running import exit_code

SHELLS = ("bash", "zsh")
DESCRIPTION = "Print a script that completes commands, options and files of pcc in your shell."
EPILOG = """\
bash, in ~/.bashrc:              source <(pcc completion bash)
zsh, in a folder of your fpath:  pcc completion zsh > ~/.zfunc/_pcc
"""


class CompletionCommand:
    """`pcc completion`.

    Args:
        whole: makes the parser of the program.
    """

    def __init__(self, whole: Callable[[], Parser]) -> None:
        self._whole = whole

    def add_options(self, parser: Parser) -> None:
        """Make the options those of this parser."""
        parser.add_argument("shell", choices=SHELLS, help="your shell")

    def run(self, options: Namespace) -> int:
        """Print the script; the exit code."""
        return exit_code(lambda: self._script(options.shell), debug=False)

    def _script(self, shell: str) -> str:
        import shtab

        whole = self._whole()
        for action in whole.files:
            action.complete = shtab.FILE  # type: ignore[attr-defined] # so shtab is told
        return str(shtab.complete(whole, shell=shell))
