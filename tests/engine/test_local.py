"""The engine that every run has: in order, with all of the work told of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from cloakify.engine.local import LocalEngine
from cloakify.engine.task import join, to_arrays, to_records
from cloakify.numeric.arrays import in_chunks
from tests.engine.counting import Numbers, Squares, expected, squares


@pytest.mark.parametrize(("count", "size"), [(1, 5), (5, 5), (23, 4)])
def test_what_comes_out_is_in_the_order_of_the_chunks(count: int, size: int) -> None:
    told: list[int] = []
    parts = list(LocalEngine(Numbers()).map(squares(count, size), told.append))
    np.testing.assert_array_equal(np.concatenate([p["squares"] for p in parts]), expected(count))
    assert min(told) >= 0 and sum(told) == count == squares(count, size).work


def test_chunks_are_all_indices_once() -> None:
    for count in (0, 1, 6, 7):
        chunks = in_chunks(np.arange(count), 3)
        assert [index for chunk in chunks for index in chunk] == list(range(count))
        assert all(len(chunk) == 3 for chunk in chunks[:-1])


@dataclass(frozen=True)
class Pair:
    a: np.ndarray
    b: np.ndarray


def test_records_come_back_from_arrays() -> None:
    records = [Pair(np.arange(n), np.arange(n) > 1) for n in range(12)]
    back = to_records(Pair, to_arrays(records))
    joined = join(back)
    assert len(back) == 12
    np.testing.assert_array_equal(joined.a, np.concatenate([each.a for each in records]))
    np.testing.assert_array_equal(joined.b, np.concatenate([each.b for each in records]))


@dataclass(frozen=True, eq=False)
class Holding(Squares):
    held: np.ndarray = field(default_factory=lambda: np.zeros(2000))


@pytest.mark.parametrize("place", [0, 1000, 1999])
def test_tasks_are_named_by_all_that_their_arrays_hold(place: int) -> None:
    """Printed, an array of over a thousand numbers is its first and last ones."""
    other = np.zeros(2000)
    other[place] = 1
    assert Holding(held=other).digest != Holding().digest == Holding(held=np.zeros(2000)).digest
