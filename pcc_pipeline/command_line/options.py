"""The options of steps. Their values are words: MLproject hands on words, and no flags."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, Namespace
from typing import NamedTuple

from pcc_pipeline.command_line.parser import Parser, Proposals
from pcc_pipeline.errors import ConfigError

# The value that MLproject passes for an option that `mlflow run -P` left out; MLflow cannot log an empty one.
LEFT_OUT = "from-params-file"


class Option(NamedTuple):
    """One option, `--test-data` for the name `test_data`.

    Attributes:
        default: its value where it is left out.
        choices: the words that it may be; whether a word is one of them is asked where it is used.
        is_file: it names a file.
        metavar: what stands for the value in the help.
    """

    name: str
    help: str
    default: str = LEFT_OUT
    choices: tuple[str, ...] = ()
    is_file: bool = False
    metavar: str = "…"

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def add_to(self, parser: Parser) -> Action:
        """Make it an option of this parser."""
        return parser.add_argument(
            self.flag,
            dest=self.name,
            default=self.default,
            metavar=self.metavar,
            help=self.help,
            choices=Proposals(self.choices) if self.choices else None,
            is_file=self.is_file,
        )

    def hide_in(self, parser: Parser) -> None:
        """Take it, as typed and as `mlflow run -P` hands on what MLproject does not name, but do not show it."""
        spelled = dict.fromkeys((self.flag, f"--{self.name}"))
        parser.add_argument(*spelled, dest=self.name, default=LEFT_OUT, help=SUPPRESS)


def words(*choices: str) -> str:
    """The choices as a phrase: `a, b or c`."""
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


_SEARCHES = ("none", "grid", "random", "optuna")
_TYPES = ("LogisticRegression", "LinearSVC", "RandomForest", "HistGradientBoosting", "MLP", "SGD", "Voting", "Stacking")
_TRUE_OR_FALSE = ("true", "false")

# How a model is named.
ADDRESSES = ("models:/name@alias", "models:/name/3", "runs:/<id>/model")

# The kinds of files that are read; a test holds them against those of the readers, which load slowly.
KINDS = ".csv, .tsv, .jsonl (also with .gz), .parquet or .pkl"

PARAMS_FILE = Option(
    "params_file", "default: params.yaml in this folder; without one, the defaults", is_file=True, metavar="FILE"
)
DATA = Option(
    "data",
    f"labelled rows: {KINDS}, local or gs://…; a folder, a pattern such as 'cases_*.csv' or a "
    "list such as '[a.csv, b.csv]' is one data set; `sample` is a generated set",
    is_file=True,
)
TRAINING_DATA = Option(
    "data", "where the model's training file lies now, if not where its training read it", is_file=True
)
MESSAGES = Option(
    "data",
    f"the messages to score: {KINDS}, local or gs://…; a folder, a pattern or a list, too",
    is_file=True,
)
WATCHED = Option(
    "data", "the messages to look at, or predictions of them, labelled or not; local or gs://…", is_file=True
)
WINDOWS = Option("windows", "all, day, week, or how many rows in a row", choices=("all", "day", "week"))
LOGS = Option(
    "logs", "monitoring logs of `score` or the downstream system: a file, several, a folder or gs://…", is_file=True
)
FAIL_ON = Option("fail_on", "alert ends with exit code 3 where something is wrong", choices=("never", "alert"))
TEST_DATA = Option("test_data", "labelled rows to test on, instead of a part of the data", is_file=True)
LABEL = Option("label", "the column that holds the labels")
SEARCH_METHOD = Option("search_method", words(*_SEARCHES), choices=_SEARCHES)
N_ITER = Option("n_iter", "how many candidates random and optuna try")
MODEL_TYPE = Option("model_type", words(*_TYPES), choices=_TYPES)
OUTPUT = Option(
    "output",
    "where the predictions go, local or gs://…: a path that ends in .parquet or .csv; or a folder, with a slash at its "
    "end, for a part for each file",
    is_file=True,
)
PARTS = Option(
    "parts", "a folder, local or gs://…, with a slash at its end, that gets a part for each file", is_file=True
)
WORKERS = Option("workers", "of many files: how many processes share them; -1 is one for each core")
SHARD = Option("shard", "of parts: this run's share of the files, such as 3/16; other runs do the others")
CHALLENGER_SHARE = Option("challenger_share", "the share of cases that the challenger answers, such as 0.1")
SHADOW = Option(
    "shadow",
    "true lets the challenger answer beside, in a file of its own, without being used",
    choices=_TRUE_OR_FALSE,
    metavar="true|false",
)
SCORED = Option("data", "files that `score` wrote: predictions of two versions, or *.shadow.parquet", is_file=True)
LABELS = Option("labels", "what came back: a file with the columns case_id and the label", is_file=True)
CHALLENGER = Option("challenger", "the version that challenges; default: the later of the two")
PLAN = Option("plan", "the champion's accuracy, such as 0.9: says how many labels are needed, and reads nothing")
WATCH = Option(
    "watch", "where data arrives: a folder, a pattern such as 'gs://bucket/cases_*.csv', or a list", is_file=True
)
SINCE = Option("since", "all files, or those since the champion's training", choices=("all", "champion"))
MONITOR = Option(
    "monitor", "messages, or predictions of them, to watch the champion by; nothing is watched without", is_file=True
)
EVERY = Option("every", "again and again at this distance, such as 24h, 90m or 7d; one round without")
REASON = Option("reason", "why, for the record; needed with --force")
FORCE = Option("force", "go past failed gates", "false", _TRUE_OR_FALSE, metavar="true|false")
ROLLBACK = Option("rollback", "bring the previous champion back", "false", _TRUE_OR_FALSE, metavar="true|false")
SUBJECTS = Option("subjects", "a text file with a person a line, as data.subject_column names them", is_file=True)
CASES = Option("cases", "a text file with a case id a line", is_file=True)
CONFIRM = Option("confirm", "the id of the plan that is to be carried out; without it a plan is made, and no more")
DRY_RUN = Option(
    "dry_run",
    "true makes a plan and no more, which is also so without --confirm",
    choices=_TRUE_OR_FALSE,
    metavar="true|false",
)
VERIFY = Option("verify", "a certificate: is it as it was signed, and does anything of theirs stand yet?", is_file=True)
PROMOTE = Option(
    "promote",
    "auto makes the version the champion if it passes registry.gates; default: never",
    "never",
    ("auto", "never"),
    metavar="auto|never",
)


def model(default: str, *addresses: str) -> Option:
    """The option that names a model."""
    return Option("model", f"{words(*addresses)}; default: the {default}")


def unless_left_out(value: str) -> str | None:
    """An option's value, or None where it was left out."""
    return None if value == LEFT_OUT else value


def switch(option: Option, options: Namespace) -> bool:
    """Whether an option is true.

    Raises:
        ConfigError: it is neither true nor false.
    """
    value: str = getattr(options, option.name)
    meanings = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if value.lower() not in meanings:
        raise ConfigError(
            f"{value!r} is neither true nor false", where=f"option {option.name}", fix="give true or false"
        )
    return meanings[value.lower()]


def choice(option: Option, options: Namespace) -> str:
    """The word that an option is.

    Raises:
        ConfigError: it is none of its choices.
    """
    value: str = getattr(options, option.name)
    if value not in option.choices:
        raise ConfigError(
            f"{value!r} is not known", where=f"option {option.name}", fix=f"give {words(*option.choices)}"
        )
    return value


def count(option: Option, options: Namespace) -> int:
    """An option's whole number.

    Raises:
        ConfigError: it is none, or below 0.
    """
    value: str = getattr(options, option.name)
    if not value.isdecimal():
        raise ConfigError(
            "it is no whole number of at least 0", where=f"option {option.name}", fix="give a number such as 5"
        )
    return int(value)


def duration(option: Option, options: Namespace) -> float | None:
    """An option's time in seconds; None where it was left out.

    Raises:
        ConfigError: it is none, or no time at all.
    """
    value = unless_left_out(getattr(options, option.name))
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)([smhd])", value)
    if match is None or not int(match[1]):
        raise ConfigError(
            f"{value!r} is no length of time",
            where=f"option {option.name}",
            fix="give a whole number and s, m, h or d, such as 90m or 24h",
        )
    return float(int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]])


def exclusive(name: str, **others: bool) -> None:
    """Refuse options that mean nothing beside another one.

    Raises:
        ConfigError: one of `others` is given.
    """
    if idle := [other for other, is_given in others.items() if is_given]:
        raise ConfigError(
            f"{' and '.join(idle)} mean nothing beside {name}", where=f"option {name}", fix="leave out one"
        )
