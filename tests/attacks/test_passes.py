"""Scores that are not one for each sample and class are told by what they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks.passes import PARTS, check_scores, lane_sizes, of_samples, part_sizes
from cloakify.errors import ModelError
from tests.support.classifiers import target_of


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        # One sample at a time, or the samples along another axis.
        ((1, 4), "does not count samples"),
        ((4,), "does not count samples"),
        ((7, 4), "does not count samples"),
        # Answers at each of five positions.
        ((6, 5, 4), "many positions"),
        ((30, 4), "many positions"),
    ],
)
def test_what_is_no_answer_a_sample_is_told(shape, told):
    with pytest.raises(ModelError, match=told):
        check_scores({"z": np.zeros(shape)}, "z", 6, 4)


def test_one_answer_a_sample_passes():
    check_scores({"z": np.zeros((6, 4, 1, 1))}, "z", 6, 4)


@pytest.mark.parametrize("shape", [(6,), (6, 2), (1, 6), (2, 3, 2)])
def test_samples_are_put_in_front(shape):
    values = np.arange(np.prod(shape), dtype=np.float32)
    for part in (1, 4, 6):
        found = of_samples(values.reshape(shape), "y", 6, part)
        assert len(found) == part
        np.testing.assert_array_equal(found.reshape(-1), values[: part * len(values) // 6])


def test_of_several_rows_a_sample_all_stay():
    assert of_samples(np.zeros((12, 3), np.float32), "y", 6, 2).shape == (12, 3)


@pytest.mark.parametrize("shape", [(), (1, 5), (7,)])
def test_what_is_no_number_a_sample_is_told(shape):
    with pytest.raises(ModelError, match="the output 'y' of 6 samples has shape"):
        of_samples(np.zeros(shape, np.float32), "y", 6, 3)


@pytest.mark.parametrize("batch", ["N", "3"])
def test_labels_behind_an_axis_of_one_in_batches_that_are_not_full(batch):
    """As scikit-learn's converter picks class names, which may be other than what scores say."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
        f"net (float[{batch}, 3] x) => (int64[1, {batch}] label, float[{batch}, 3] p) "
        "<int64[3] names = {0, 1, 2}, float[3, 3] w = {1, 0, 0, 0, 1, 0, 0, 0, 1}> "
        "{ z = MatMul (x, w)  p = Softmax <axis = 1> (z)  i = ArgMax <axis = 1, keepdims = 0> (p) "
        "label = ai.onnx.ml.ArrayFeatureExtractor (names, i) }"
    )
    x = np.random.default_rng(0).random((8, 3), np.float32)
    y = x.argmax(axis=1)
    y[::3] = (y[::3] + 1) % 3
    for count in range(1, 9):
        found = target_of(model).correct(x[:count], y[:count])
        np.testing.assert_array_equal(found, np.arange(count) % 3 != 0)


@given(st.integers(1, 300), st.data())
def test_less_than_a_part_of_a_batch_is_filled_up(batch: int, data: st.DataObject) -> None:
    sizes = part_sizes(batch, fixed=False)
    assert sizes == sorted(set(sizes)) and sizes[-1] == batch
    assert set(lane_sizes(batch, fixed=False)) == {sizes[0], sizes[-1]}
    assert part_sizes(batch, fixed=True) == [batch]
    samples = data.draw(st.integers(1, batch))
    chosen = next(size for size in sizes if size >= samples)
    if batch >= 2 * PARTS:
        assert chosen - samples <= batch / PARTS
