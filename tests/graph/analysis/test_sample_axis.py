"""Which axis of an input counts samples, by what the answer has in front."""

from __future__ import annotations

import onnx
import pytest

from cloakify.graph.analysis.attack_point import find_attack_point
from cloakify.graph.analysis.sample_axis import sample_axes

LAST = "i = Constant <value_int = -1> ()  h = Gather <axis = 0> (x, i)  y = MatMul (h, w)"
MEAN = "h = ReduceMean <axes = [0], keepdims = 0> (x)  y = MatMul (h, w)"
FIRST = "h = ReduceMean <axes = [1], keepdims = 0> (x)  y = MatMul (h, w)"
EACH = "y = MatMul (x, w)"
ROWS = "y = MatMul (x, w)"
TURNED = "z = MatMul (x, w)  y = Transpose <perm = [1, 0]> (z)"
BESIDE = "h = ReduceMean <axes = [0], keepdims = 0> (x)  y = MatMul (h, w)  s = Tanh (x)"


@pytest.mark.parametrize(
    ("taken", "body", "given", "axis"),
    [
        ("T, N, 6", MEAN, "float[N, 3] y", 1),
        ("12, N, 6", LAST, "float[N, 3] y", 1),
        ("12, 1, 6", LAST, "float[1, 3] y", 1),
        ("12, 4, 6", LAST, "float[4, 3] y", 1),
        # As long as there are classes, too.
        ("3, N, 6", LAST, "float[N, 3] y", 1),
        # Names that are no input's, and none: what onnx infers tells.
        ("a, b, 6", MEAN, "float[c, 3] y", 1),
        ("?, ?, 6", LAST, "float[?, 3] y", 1),
        ("T, N, 6", BESIDE, "float[N, 3] y, float[T, N, 6] s", 1),
        ("N, T, 6", FIRST, "float[N, 3] y", 0),
        ("a, b, 6", FIRST, "float[c, 3] y", 0),
        ("?, ?, 6", FIRST, "float[?, 3] y", 0),
        ("1, 12, 6", FIRST, "float[1, 3] y", 0),
        ("N, 6", ROWS, "float[N, 3] y", 0),
        ("1, 6", ROWS, "float[1, 3] y", 0),
        ("?, 6", ROWS, "float[?, 3] y", 0),
        # One sample without its axis, and an answer at each of its positions.
        ("1, 12, 6", "h = Squeeze (x, zero)  y = MatMul (h, w)", "float[12, 3] y", 0),
        # The classes in front of the samples.
        ("N, 6", TURNED, "float[3, N] y", 0),
        ("6, 6", TURNED, "float[3, 6] y", 0),
        # An answer at every step is no answer to a sample, whatever is in front.
        ("T, N, 6", EACH, "float[T, N, 3] y", 0),
    ],
)
def test_the_answer_tells(taken: str, body: str, given: str, axis: int) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[{taken}] x) => ({given}) '
        f"<float[6, 3] w = {{{', '.join('1' * 18)}}}, int64[1] zero = {{0}}> {{ {body} }}"
    )
    assert sample_axes(model) == {"x": axis}
    entry = find_attack_point(model)
    sizes = [int(size) if size.strip().isdigit() else None for size in taken.split(",")]
    assert entry.input.sample_axis == axis
    assert entry.input.shape == (sizes[axis], *sizes[:axis], *sizes[axis + 1 :])
    assert entry.is_plain == (axis == 0)


def test_each_input_has_its_own() -> None:
    """As torch's transformers take them: a sequence [T, N, D], and a mask [N, T]."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[T, N, 6] x, float[N, T] mask, float[N] weight) => (float[N, 6] y)
        <int64[1] two = {2}> {
          turned = Transpose <perm = [1, 0]> (mask)
          wide = Unsqueeze (turned, two)
          kept = Mul (x, wide)
          y = ReduceMean <axes = [0], keepdims = 0> (kept)
        }"""
    )
    assert sample_axes(model) == {"x": 1, "mask": 0, "weight": 0}
