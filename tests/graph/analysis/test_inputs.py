"""The data input is found among weights that are listed as inputs, and images are told apart."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.inputs import find_input


def model(inputs: str, constants: str = "") -> ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 3, opset_import: ["" : 8]> f ({inputs}) => (float[N] y) '
        f"<{constants}> {{ y = Identity (x) }}"
    )


def test_weights_listed_as_inputs_are_not_data():
    spec = find_input(model("float[2] w, float[N, 3] x", "float[2] w = {1, 2}"))
    assert (spec.name, spec.shape, spec.sample_shape) == ("x", (None, 3), (3,))
    assert (spec.dtype, spec.batch_size, spec.channels) == (np.float32, None, None)


@pytest.mark.parametrize(
    ("shape", "axis", "channels"),
    [
        ("N, 3, 32, 32", 1, 3),
        ("N, 32, 32, 3", 3, 3),
        ("8, 1, 28, 28", 1, 1),
        ("N, H, W, 3", 3, 3),
        ("N, 3, H, W", 1, 3),
        ("N, 3, 4, 4", 1, 3),
        ("N, 1, 1, 1", 1, 1),
        ("N, 64, 8, 8", 1, 64),
        ("N, C, H, W", None, None),
        ("N, 3, 32", None, None),
        ("N, 12", None, None),
    ],
)
def test_channels_come_first_or_last(shape, axis, channels):
    spec = find_input(model(f"float[{shape}] x"))
    assert (spec.channel_axis, spec.channels) == (axis, channels)
    assert spec.batch_size == (8 if shape.startswith("8") else None)


@pytest.mark.parametrize(("kind", "dtype"), [("uint8", "u1"), ("float16", "f2"), ("double", "f8")])
def test_the_element_type_is_numpys(kind, dtype):
    assert find_input(model(f"{kind}[N, 3] x")).dtype == np.dtype(dtype)


def test_zero_and_negative_sizes_count_as_unknown():
    found = model("float[N, 3] x")
    for size in (0, -1):
        found.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
        assert find_input(found).batch_size is None


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ("", r"it has 0 \(none\)"),
        ("float[N, 3] x, float[N] z", r"it has 2 \(x, z\)"),
        ("float x", "is a scalar; a batch axis is needed"),
        ("seq(float[N]) x", "is not a tensor of known rank"),
        ("float[] x", "is not a tensor of known rank"),
    ],
)
def test_what_is_no_classifiers_input_is_refused(inputs, reason):
    with pytest.raises(ModelError, match=reason):
        find_input(model(inputs))


def test_an_unknown_element_type_is_refused():
    found = model("float[N, 3] x")
    found.graph.input[0].type.tensor_type.elem_type = 0
    with pytest.raises(ModelError, match="has no element type"):
        find_input(found)
