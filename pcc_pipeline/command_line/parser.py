"""argparse, which says of a mistyped option or command which one may be meant, on every Python alike."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from pcc_pipeline.errors import meant


class Parser(argparse.ArgumentParser):
    """A parser that knows its own options and commands by name. What it does not know it refuses with exit code 2.

    Args:
        private: any word that is typed may be a customer's, and none is repeated but the parser's own options.
    """

    def __init__(self, *, private: bool = False, **settings: Any) -> None:
        self._private = private
        self._options: dict[str, bool] = {}  # and whether the help shows it
        self._commands: list[str] = []
        self._children: argparse.Action | None = None
        self._files: list[argparse.Action] = []
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def add_argument(self, *names: str, is_file: bool = False, **settings: Any) -> argparse.Action:
        """As argparse's; an option without a help text to show is never proposed.

        Args:
            is_file: the value names a file.
        """
        shown = settings.get("help") != argparse.SUPPRESS
        self._options |= {name: shown for name in names if name.startswith("--")}
        action = super().add_argument(*names, **settings)
        if is_file:
            self._files.append(action)
        return action

    @property
    def files(self) -> list[argparse.Action]:
        """All that name a file, those of the commands included."""
        children = self._children.choices if self._children is not None else {}
        return [*self._files, *(action for child in dict(children or {}).values() for action in child.files)]

    def add_commands(self, names: Iterable[str], **settings: Any) -> Any:
        """As argparse's `add_subparsers`; one of `names`, which are added next, must be given."""
        self._commands += names
        self._children = self.add_subparsers(required=True, metavar="COMMAND", **settings)
        return self._children

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse's, but nothing stays unknown: it is refused here, where a command's own options are known."""
        words = list(sys.argv[1:] if args is None else args)
        if self._commands:
            self._demand_a_command(words)
        else:
            self._demand_options(words)
        options, unknown = super().parse_known_args(words, namespace)
        if unknown and self._private:
            self._refuse_privately(len(unknown), ())
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, []

    def error(self, message: str) -> NoReturn:
        """As argparse's, whose own messages quote what was typed."""
        if self._private and not _QUOTES_NOTHING.fullmatch(message):
            message = "the options cannot be read as they stand: put the message in quotes; --help lists them"
        super().error(message)

    def _demand_a_command(self, words: Sequence[str]) -> None:
        if not words:
            self.print_help(sys.stderr)
            self.exit(2)
        first = next((word for word in words if not word.startswith("-")), None)
        if first is not None and first not in self._commands:
            self.error(f"no command {first!r}{meant(first, self._commands)}; there are {', '.join(self._commands)}")

    def _demand_options(self, words: Sequence[str]) -> None:
        # Before argparse, which would rather say that the option that was meant is missing.
        end = words.index("--") if "--" in words else len(words)
        named = [word.partition("=")[0] for word in words[:end] if word.startswith("--")]
        # A word with a blank is a value, and the beginning of an option stands for it: so argparse has it.
        unknown = [
            name for name in named if " " not in name and not any(known.startswith(name) for known in self._options)
        ]
        if unknown:
            shown = [name for name, is_shown in self._options.items() if is_shown]
            if self._private:
                self._refuse_privately(len(unknown), [meant(name.replace("_", "-"), shown) for name in unknown])
            near = [f"{name}{meant(name.replace('_', '-'), shown)}" for name in unknown]
            self.error(f"unrecognized arguments: {' '.join(near)}")

    def _refuse_privately(self, count: int, questions: Iterable[str]) -> NoReturn:
        """Unknown words, without them; `questions` name options of the parser."""
        words = "1 word belongs" if count == 1 else f"{count} words belong"
        hints = "".join(dict.fromkeys(questions))
        super().error(f"{words} to no option{hints}: put the message in quotes")


# Of argparse's messages, those that name an option and nothing else.
_QUOTES_NOTHING = re.compile(r"argument (?:--?[a-z-]+/?)+: expected one argument")


class Proposals(tuple[str, ...]):
    """An option's words, for help and completion. Any other is taken as well: the step refuses it, in its own words."""

    def __contains__(self, word: object) -> bool:
        return True
