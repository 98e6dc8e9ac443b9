"""Samples without labels stand behind the data's own, and are none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloakify.data import Dataset, Preprocessing, open_data
from cloakify.data.unlabelled import without_copies
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import find_input
from cloakify.numeric.arrays import in_chunks
from tests.support.fragile import fragile_model


def opened(folder: Path, name: str, x: np.ndarray) -> Dataset:
    path = folder / f"{name}.npz"
    np.savez(path, x=x.astype(np.float32), y=np.arange(len(x)) % 2)
    return open_data(path, find_input(fragile_model()), Preprocessing())


def test_copies_are_left_out_and_the_others_come_behind(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, more = rng.random((2, 10, 8))
    more[3], more[7] = x[5], more[2]
    both = without_copies(opened(tmp_path, "x", x), opened(tmp_path, "more", more))
    kept = [0, 1, 2, 4, 5, 6, 8, 9]
    assert both.kept.tolist() == kept
    assert both.indices.tolist() == list(range(10, 18))
    assert "8 samples without labels" in both.note and "2 are copies" in both.note
    order = rng.permutation(18)
    expected = np.concatenate([x, more[kept]])[order].astype(np.float32)
    labels = np.concatenate([np.arange(10) % 2, np.array(kept) % 2])[order]
    batches = [both.batch(index) for index in in_chunks(order, 5)]
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in batches]), expected)
    np.testing.assert_array_equal(np.concatenate([batch.y for batch in batches]), labels)
    np.testing.assert_array_equal(np.concatenate([batch.index for batch in batches]), order)
    names = set()
    for index in (order, order[::-1], np.arange(10), np.arange(10, 18), order[:3]):
        names.add(both.digest_at(index))
        assert both.digest_at(index) == both.digest_read(index)
    assert len(names) == 5


def test_what_brings_nothing_is_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((6, 8))
    data = opened(tmp_path, "x", x)
    with pytest.raises(DataError, match="every sample is a copy"):
        without_copies(data, opened(tmp_path, "more", x[::-1]))
