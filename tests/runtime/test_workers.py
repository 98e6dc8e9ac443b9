"""A run of a session on each core."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.runtime import Device, Workers

CPU = Device("cpu")


@given(st.lists(st.integers()), st.integers(1, 4))
def test_results_come_in_the_order_of_the_items(items: list[int], count: int) -> None:
    assert Workers(CPU, count).map(lambda item: item * 3, items) == [item * 3 for item in items]


def test_items_are_computed_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=30)
    # Nobody passes the barrier alone.
    assert sorted(Workers(CPU, 3).map(lambda _: meeting.wait(), range(3))) == [0, 1, 2]


def test_a_worker_computes_its_own_items() -> None:
    workers = Workers(CPU, 2)

    def names(_: int) -> list[str]:
        assert workers.free == 1
        return workers.map(lambda _: threading.current_thread().name, range(5))

    assert workers.free == 2
    assert [len(set(found)) for found in workers.map(names, range(4))] == [1] * 4


def test_the_first_error_in_the_items_order_is_raised() -> None:
    later = threading.Event()

    def fail(item: int) -> None:
        if item == 1:
            later.wait(30)
        elif item == 2:
            later.set()
        if item:
            raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 1"):
        Workers(CPU, 3).map(fail, range(4))


def test_only_a_cpu_has_several() -> None:
    assert Workers(CPU).count >= 1 and Workers(CPU).threads == 1
    cuda = Workers(Device("cuda"), 8)
    assert (cuda.count, cuda.free) == (1, 1)
    main = threading.current_thread()
    assert cuda.map(lambda _: threading.current_thread(), range(3)) == [main] * 3


def test_threads_end_with_their_workers() -> None:
    workers = Workers(CPU, 3)
    meeting = threading.Barrier(3, timeout=30)
    threads = []

    def meet(_: int) -> None:
        threads.append(threading.current_thread())
        meeting.wait()

    workers.map(meet, range(3))
    assert len(set(threads)) == 3
    del workers
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
