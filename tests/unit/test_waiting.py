"""Waits grow, differ from one another's, and end when patience does."""

from __future__ import annotations

import time
from itertools import islice

from pcc_pipeline.waiting import Patience, Schedule, delays


def test_each_wait_is_up_to_twice_the_one_before_and_none_is_longer_than_the_longest() -> None:
    for _ in range(50):
        for seconds, most in zip(islice(delays(1.0, 15.0), 7), (1, 2, 4, 8, 15, 15, 15), strict=True):
            assert most / 2 <= seconds <= most


def test_two_that_lost_one_server_do_not_come_back_in_step() -> None:
    first, second = list(islice(delays(1.0, 15.0), 5)), list(islice(delays(1.0, 15.0), 5))
    assert not {*first} & {*second}


def test_the_last_try_is_at_the_end_of_the_time() -> None:
    began, tries = time.monotonic(), 1
    patience = Patience(0.3, first=0.05, longest=0.2)
    while patience.wait():
        tries += 1
    assert tries >= 3
    assert time.monotonic() - began >= 0.3
    assert patience.left <= 0
    assert not patience.wait()


def test_no_patience_is_one_try() -> None:
    assert not Patience(0.0, first=1.0, longest=1.0).wait()


def test_a_schedule_neither_drifts_nor_repeats_what_it_missed() -> None:
    now = 1000.0
    schedule = Schedule(10.0, lambda: now)
    assert schedule.next == 1010.0
    now = 1003.7
    assert schedule.next == 1010.0
    now = 1025.0  # a round of 25 seconds: those at 10 and 20 are left out
    assert schedule.next == 1030.0
    now = 1030.0
    schedule.wait()
    assert schedule.next == 1040.0, "of one time there is one round, however short it is"
    now = 1029.0  # the clock was set back
    assert schedule.next == 1040.0


def test_rounds_come_at_equal_distances_however_long_they_take() -> None:
    began, schedule, ends = time.time(), Schedule(0.2), []
    for work in (0.05, 0.15, 0.0):
        time.sleep(work)
        schedule.wait()
        ends.append(time.time() - began)
    for number, end in enumerate(ends, start=1):
        assert end >= 0.2 * number - 0.01
    assert ends[2] - ends[0] < 0.4 + 0.19, "the third is not later by what the others took"
