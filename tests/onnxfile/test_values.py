"""Tensors that can't be read are refused in one line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from cloakify.errors import ModelError
from cloakify.onnxfile import values_of


def in_segments(tensor: TensorProto) -> None:
    tensor.segment.begin = 0


def cut_short(tensor: TensorProto) -> None:
    tensor.raw_data = tensor.raw_data[:-1]


def of_no_type(tensor: TensorProto) -> None:
    tensor.data_type = 99


def of_text(tensor: TensorProto) -> None:
    tensor.data_type = TensorProto.STRING


@pytest.mark.parametrize("damage", [in_segments, cut_short, of_no_type, of_text])
def test_damaged_tensors(damage: Callable[[TensorProto], None]) -> None:
    tensor = onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    np.testing.assert_array_equal(values_of(tensor), [[0, 1, 2], [3, 4, 5]])
    damage(tensor)
    with pytest.raises(ModelError, match="the tensor 'w' can't be read") as caught:
        values_of(tensor)
    assert "\n" not in str(caught.value)
