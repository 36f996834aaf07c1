"""How often patterns are seen in messages over time that have none, and how often planted ones are found.

    python -m benchmarks.changes_over_time [--simulations 300]

Whole files are made, rows with times and one of four labels, and counted as `train` counts them. Each line is one kind
of file and number of days: the share of files in which anything was found besides what was planted, and the share in
which what was planted was found as what it is, a break within three weeks (or a quarter of the days) of its day.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from pcc_pipeline.evaluation.over_time.volumes import Finding, Volumes, volumes

DAYS, MEAN = (28, 60, 180, 365), 20.0
SHARES = {"other": 0.6, "data_deletion": 0.2, "opt_out": 0.15, "privacy_request": 0.05}
_START = np.datetime64("2026-01-01", "us")


@dataclass(frozen=True)
class Kind:
    """A kind of file: what spreads its days, and what is planted.

    Attributes:
        spread, alike: standard deviation of the logarithm of a day's mean, and its correlation with the day before's.
        weekend: factor on Saturdays and Sundays.
        step: factor on the mean from two thirds of the days on; `risen` that of the last day's mean, by a line.
        share_step: factor on the share of data_deletion from two thirds of the days on.
    """

    name: str
    spread: float = 0.0
    alike: float = 0.0
    weekend: float = 1.0
    step: float = 1.0
    risen: float = 1.0
    share_step: float = 1.0


KINDS = (
    Kind("nothing (Poisson)"),
    Kind("nothing, days spread by 0.3", spread=0.3),
    Kind("nothing, spread 0.3, alike 0.3", spread=0.3, alike=0.3),
    Kind("nothing, spread 0.3, alike 0.6", spread=0.3, alike=0.6),
    Kind("weekends at half", spread=0.2, weekend=0.5),
    Kind("a break to 1.5 times", spread=0.2, step=1.5),
    Kind("a trend to twice", spread=0.2, risen=2.0),
    Kind("a break of a share, 20 to 30 %", spread=0.2, weekend=0.5, share_step=1.5),
)


def made(kind: Kind, days: int, draws: np.random.Generator, mean: float = MEAN) -> Volumes:
    """A file of this kind, counted."""
    place = np.arange(days)
    late = place >= days * 2 // 3
    noise = np.zeros(days)
    for day in range(days):
        before = noise[day - 1] if day else draws.normal()
        noise[day] = kind.alike * before + np.sqrt(1 - kind.alike**2) * draws.normal()
    means = mean * np.exp(kind.spread * noise - kind.spread**2 / 2) * np.linspace(1, kind.risen, days)
    means *= np.where(late, kind.step, 1.0) * np.where((place + _START.astype("O").weekday()) % 7 >= 5, kind.weekend, 1)
    of_day = np.repeat(place, draws.poisson(means))
    times = _START + of_day * np.timedelta64(1, "D") + draws.integers(0, 24 * 60, len(of_day)) * np.timedelta64(1, "m")
    chances = np.tile([*SHARES.values()], (len(of_day), 1))
    chances[late[of_day], 1] *= kind.share_step
    chances[:, 0] = 1 - chances[:, 1:].sum(axis=1)
    label = (draws.random((len(of_day), 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(max=3)
    counted = volumes(pd.Series(times), np.array([*SHARES], dtype=object)[label])
    assert counted is not None, "there are times"
    return counted


def planted(kind: Kind, counted: Volumes, days: int) -> list[Finding]:
    """Those of the findings that are what was planted."""
    day = counted.first + timedelta(days=days * 2 // 3)
    most = min(21, days // 4)
    near = {str(day + timedelta(days=off)) for off in range(-most, most + 1)}
    shown = []
    for each in counted.findings:
        of_all = each.label is None
        if (
            (each.kind == "weekly" and of_all and kind.weekend != 1)
            or (each.kind == "trend" and of_all and kind.risen != 1)
            or (each.kind == "break" and of_all and kind.step != 1 and each.when in near)
            # What one share gains, the others lose.
            or (each.kind == "break" and not of_all and kind.share_step != 1 and each.when in near)
        ):
            shown.append(each)
    return shown


def rates(kind: Kind, days: int, simulations: int, seed: int = 0, mean: float = MEAN) -> tuple[float, float]:
    """Shares of files in which something else was found, and in which what was planted was."""
    draws = np.random.default_rng(seed)
    others = right = 0
    for _ in range(simulations):
        counted = made(kind, days, draws, mean)
        shown = planted(kind, counted, days)
        aim = [each for each in shown if kind.share_step == 1 or each.label == "data_deletion"]
        others += len(shown) < len(counted.findings)
        right += bool(aim)
    return others / simulations, right / simulations


def main(arguments: list[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.changes_over_time", description=__doc__)
    parser.add_argument("--simulations", type=int, default=300)
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    print(f"| {MEAN:g} messages a day, {options.simulations} files | days | something else found | planted found |")
    print("|---|---|---|---|")
    for kind in KINDS:
        for days in DAYS:
            other, right = rates(kind, days, options.simulations)
            nothing = kind.name.startswith("nothing")
            print(f"| {kind.name} | {days} | {other:.3f} | {'' if nothing else f'{right:.2f}'} |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
