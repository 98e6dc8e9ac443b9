"""Old models compute the same once they are brought to the working opset."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.errors import ModelError
from cloakify.graph.lowering.opset import WORKING_OPSET, modernise
from cloakify.graph.lowering.run_once import run_once

# (first and last opset, statement, shape of x, initializers)
CASES = [
    (
        7,
        8,
        'y = Upsample<mode: string = "linear", scales: floats = [1., 1., 2., 2.]>(x)',
        "1,2,3,4",
        "",
    ),
    (
        7,
        8,
        'y = Upsample<mode: string = "nearest", scales: floats = [1., 1., 1.5, 2.5]>(x)',
        "1,2,3,4",
        "",
    ),
    (9, 9, 'y = Upsample<mode: string = "linear">(x, s)', "1,2,3,4", "float[4] s = {1, 1, 2, 2.5}"),
    (10, 10, 'y = Resize<mode: string = "linear">(x, s)', "1,2,4,6", "float[4] s = {1, 1, 0.5, 2}"),
    (
        10,
        10,
        'y = Resize<mode: string = "nearest">(x, s)',
        "1,2,4,7",
        "float[4] s = {1, 1, 0.5, 0.4}",
    ),
    (
        10,
        10,
        'y = Resize<mode: string = "nearest">(x, s)',
        "1,2,4,7",
        "float[4] s = {1, 1, 1, 1.7}",
    ),
    (7, 12, "y = Softmax(x)", "2,3,4,5", ""),
    (7, 12, "y = Softmax<axis: int = 2>(x)", "2,3,4,5", ""),
    (7, 12, "y = LogSoftmax<axis: int = 0>(x)", "2,3,4", ""),
    (7, 12, "y = ReduceMean<axes: ints = [2, 3], keepdims: int = 0>(x)", "2,3,4,5", ""),
    (7, 12, "y = ReduceSum<axes: ints = [1]>(x)", "2,3,4", ""),
    (7, 12, "y = Squeeze<axes: ints = [0]>(x)", "1,3,4", ""),
    (7, 12, "y = Unsqueeze<axes: ints = [0, 2]>(x)", "1,3,4", ""),
    (7, 12, "a, y = Split<axis: int = 1, split: ints = [1, 3]>(x)", "2,4", ""),
    (7, 10, "y = Clip<min: float = -0.5, max: float = 0.6>(x)", "2,3", ""),
    (7, 10, 'y = Pad<mode: string = "reflect", pads: ints = [0, 1, 0, 1]>(x)', "2,3", ""),
    (7, 10, "y = Pad<pads: ints = [0, 1, 0, 1], value: float = 2.0>(x)", "2,3", ""),
    (
        7,
        9,
        "y = Slice<axes: ints = [1, 2], starts: ints = [0, -2], ends: ints = [1, 9]>(x)",
        "2,3,4",
        "",
    ),
    (7, 9, "y, i = TopK<axis: int = 1, k: int = 2>(x)", "2,3,4", ""),
    (7, 12, "y = Dropout(x)", "2,3", ""),
    (
        7,
        12,
        "y = BatchNormalization<epsilon: float = 0.01>(x, a, b, a, c)",
        "2,2,4",
        "float[2] a = {1, 2}, float[2] b = {1, 0}, float[2] c = {1, 2}",
    ),
    # Not in those opsets, but ONNX Runtime's optimiser writes it.
    (7, 16, "y = LayerNormalization(x, a)", "2,2", "float[2] a = {1, 2}"),
    (
        9,
        10,
        "y = Scatter<axis: int = 1>(x, i, u)",
        "1,5",
        "int64[1, 2] i = {1, 3}, float[1, 2] u = {5, 6}",
    ),
]


def _model(opset: int, statement: str, shape: str, constants: str) -> onnx.ModelProto:
    block = f"<{constants}>" if constants else ""
    return onnx.parser.parse_model(
        f'<ir_version: 7, opset_import: ["" : {opset}]> '
        f"f (float[{shape}] x) => (float y) {block} {{ {statement} }}"
    )


@pytest.mark.parametrize(("first", "last", "statement", "shape", "constants"), CASES)
def test_same_values(first: int, last: int, statement: str, shape: str, constants: str) -> None:
    x = np.random.default_rng(0).standard_normal([int(n) for n in shape.split(",")])
    for opset in range(first, last + 1):
        old = _model(opset, statement, shape, constants)
        expected = run_once(old, {"x": x.astype(np.float32)})
        new = modernise(old)
        assert new.opset_import[0].version >= WORKING_OPSET
        found = run_once(new, {"x": x.astype(np.float32)})
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)


def test_resize_that_shrinks_one_axis_and_enlarges_another_is_refused() -> None:
    statement = 'y = Resize<mode: string = "nearest">(x, s)'
    model = _model(10, statement, "1,2,4,6", "float[4] s = {1, 1, 0.5, 1.7}")
    with pytest.raises(ModelError, match="opset 11"):
        modernise(model)


def test_a_version_that_is_named_twice_is_named_once() -> None:
    """As skl2onnx writes some of its files."""
    model = _model(17, "y = ReduceMax<axes: ints = [1]>(x)", "2,3", "")
    model.opset_import.append(model.opset_import[0])
    new = modernise(model)
    assert [entry.version for entry in new.opset_import] == [WORKING_OPSET]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(run_once(new, {"x": x})[0], [[2], [5]])


def test_a_model_of_other_operators_alone_needs_no_version_of_the_standard() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["ai.onnx.ml" : 3]> f (float[2, 3] x) => (float[2, 3] y) '
        "{ y = ai.onnx.ml.Scaler <offset = [1.0], scale = [2.0]> (x) }"
    )
    versions = {entry.domain: entry.version for entry in modernise(model).opset_import}
    assert versions == {"ai.onnx.ml": 3, "": WORKING_OPSET}


def test_a_later_opset_is_brought_back_where_it_has_nothing_new() -> None:
    """CUDA has no kernel for the form of `MaxPool` that only adds a type."""
    pool = """
        <ir_version: 10, opset_import: ["" : 22]>
        f (float[2, 3, 8, 8] x) => (float[2, 3, 4, 4] y)
        { y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }
    """
    model = onnx.parser.parse_model(pool)
    assert modernise(model).opset_import[0].version == WORKING_OPSET
    # RMSNormalization is of 23.
    text = """
        <ir_version: 10, opset_import: ["" : 23]>
        f (float[2, 8] x) => (float[2, 8] y) <float[8] s = {1, 1, 1, 1, 1, 1, 1, 1}>
        { y = RMSNormalization (x, s) }
    """
    assert modernise(onnx.parser.parse_model(text)).opset_import[0].version == 23
