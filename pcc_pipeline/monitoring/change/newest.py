"""Since when messages are as they are now: a reference of older ones would call the newest changed for good.

From the newest rows back, block by block, as long as the next older block is like those that were taken (as windows
that grow until what is in them differs: Bifet and Gavaldà, SIAM International Conference on Data Mining, 2007).
"""

from __future__ import annotations

import numpy as np

from pcc_pipeline.monitoring.change.drift import Chance, drift
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.monitoring.change.sketches import Sketcher

# Rows of a block: fewer show a change too late, and a reference of fewer notices little.
_FEWEST, _BLOCKS = 150, 8
# Of more rows, drawn ones are looked at, as for a profile: what chance makes is drawn from them a thousand times.
_MOST_ROWS = 2000
# How rarely chance alone ends it at the first look, which sees the newest block beside all older rows.
_RATE = 0.01


def alike_since(signals: Signals, times: np.ndarray, n_classes: int, seed: int) -> np.datetime64 | None:
    """The time from which on rows (n) are like the newest of them; None where all are, or few have a time.

    Args:
        signals: of rows with different texts.
        times: (n,) datetime64; NaT where a row has none.
    """
    timed = np.flatnonzero(~np.isnat(times))
    if 2 * len(timed) < len(times):
        return None
    if len(timed) > _MOST_ROWS:
        timed = np.sort(np.random.default_rng(seed).choice(timed, _MOST_ROWS, replace=False))
    block = max(_FEWEST, len(timed) // _BLOCKS)
    if len(timed) < 2 * block:
        return None
    newest_first = timed[np.argsort(times[timed], kind="stable")[::-1]]
    sketcher = Sketcher.of(signals.take(timed), n_classes)

    def alike(one: np.ndarray, others: np.ndarray) -> bool:
        reference, window = signals.take(others), signals.take(one)
        chance = Chance.drawn(reference, sketcher, seed, (len(one),))
        sketches = sketcher.sketch(reference), sketcher.sketch(window)
        return not drift(sketches[0], len(others), sketches[1], len(one), chance, _RATE).alarm

    if alike(newest_first[:block], newest_first[block:]):
        return None
    end = block
    while end < len(timed):
        older = newest_first[end : end + block]
        if len(older) < block // 2:  # the rest of them says too little by itself
            break
        if not alike(older, newest_first[:end]):
            break
        end += len(older)
    if end + block // 2 >= len(timed):
        return None
    oldest: np.datetime64 = times[newest_first[end - 1]]
    return oldest
