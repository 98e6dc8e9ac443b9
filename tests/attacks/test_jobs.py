"""Jobs are dealt to workers, and all stop where one fails."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks.jobs import Jobs, share_jobs
from cloakify.runtime import Device, Workers

CPU = Device("cpu")


@given(st.integers(0, 30), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_every_job_and_what_follows_from_it_is_done_once(
    count: int, room: int, workers: int, rounds: int
) -> None:
    done: Counter[tuple[int, int]] = Counter()
    lock = threading.Lock()

    def work(mine: Jobs[tuple[int, int]]) -> None:
        while jobs := mine.take(room):
            assert len(jobs) <= room
            with lock:
                done.update(jobs)
            mine.add((row, number + 1) for row, number in jobs if number + 1 < rounds)

    share_jobs(Workers(CPU, workers), [(row, 0) for row in range(count)], work)
    assert done == Counter((row, number) for row in range(count) for number in range(rounds))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_all_stop_where_one_fails(error: type[BaseException]) -> None:
    stopped = []

    def work(mine: Jobs[int]) -> None:
        (job,) = mine.take(1)
        if job == 1:
            raise error("no")
        try:
            # For ever, unless the other's failure ends it.
            while True:
                mine.check()
        finally:
            stopped.append(job)

    with pytest.raises(error, match="no"):
        share_jobs(Workers(CPU, 2), [0, 1], work)
    assert stopped == [0]
