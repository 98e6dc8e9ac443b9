"""Gradients straight through steps and levels, against the same secants taken in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import NoGradientError
from cloakify.graph.attack_steps.build import GRADIENT, LABELS, LOGITS, GradientSpec, build_gradient
from cloakify.graph.attack_steps.hidden_slopes import HIDDEN, build_hidden_slopes
from cloakify.graph.gradient.secant import NARROWER, WIDTHS
from cloakify.runtime import Device, Session

Function = Callable[[np.ndarray], np.ndarray]


def dead(h: np.ndarray, width: float = 0.5) -> np.ndarray:
    return np.where(np.abs(h) < width, 0, h)


MARKS = np.array([-1.0, 0.0, 1.0], np.float32)
TABLE = np.array([2.0, -1.0, 0.5, 3.0, -2.0, 1.0, 4.0], np.float32)
ROWS = {
    "marks": MARKS,
    "upright": MARKS[:, None],
    "column": MARKS[:, None],
    "ones": np.ones((3, 1), np.float32),
    "fold": np.repeat(np.eye(30, dtype=np.float32), 3, axis=0),
    "table": TABLE,
    "listed": TABLE[:, None],
    "rows": np.stack([TABLE, -TABLE], axis=1),
    "back": np.array([[0.5], [-0.5]], np.float32),
}
_BITS = "u = Unsqueeze (h, end) c = Greater (u, marks) b = Cast <to = 1> (c)"
_PLACE = "a = Add (h, three) r0 = Round (a) q = Clip (r0, zero, six) k = Cast <to = 7> (q)"


def _bits(h: np.ndarray) -> np.ndarray:
    return (h[..., None] > MARKS).sum(axis=-1)


def _nearest(h: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(h), -1, 1)


def _looked_up(h: np.ndarray) -> np.ndarray:
    return TABLE[np.clip(np.rint(h + 3), 0, 6).astype(int)]


# In ONNX, from h to s, and in NumPy.
FUNCTIONS: dict[str, tuple[str, Function]] = {
    "round": ("s = Round (h)", np.rint),
    "floor": ("s = Floor (h)", np.floor),
    "sign": ("s = Sign (h)", np.sign),
    # To halves, by what float32 leaves of a large sum.
    "shifted": ("u = Add (h, large) s = Sub (u, large)", lambda h: np.rint(2 * h) / 2),
    "eight bits": (
        "q = QuantizeLinear (h, half, none) s = DequantizeLinear (q, half, none)",
        lambda h: np.rint(2 * h) / 2,
    ),
    "whole": ("i = Cast <to = 7> (h) s = Cast <to = 1> (i)", np.trunc),
    "rest": ("r = Mod <fmod = 1> (h, one) s = Sub (h, r)", np.trunc),
    "choice": ("a = Abs (h) c = Less (a, half) s = Where (c, zero, h)", dead),
    "product": (
        "a = Abs (h) c = GreaterOrEqual (a, half) m = Cast <to = 1> (c) s = Mul (h, m)",
        dead,
    ),
    "shrink": ("s = Shrink <lambd = 0.5> (h)", dead),
    "clip": ("s = Clip (h, zero, half)", lambda h: np.clip(h, 0, 0.5)),
    "threshold": ("s = ThresholdedRelu <alpha = 0.5> (h)", lambda h: np.where(h > 0.5, h, 0)),
    "steep": (
        "t = Mul (h, many) s = Sigmoid (t)",
        lambda h: 1 / (1 + np.exp(-np.clip(200 * h, -80, 80))),
    ),
    "two bends": (
        "a = Sub (h, half) b = Relu (a) n = Neg (h) m = Sub (n, half) r = Relu (m) s = Sub (b, r)",
        lambda h: np.sign(h) * np.maximum(np.abs(h) - 0.5, 0),
    ),
    # By way of rows: thresholds, distances, rows of tables, one-hot codes.
    "thermometer": (f"{_BITS} s = ReduceSum <keepdims = 0> (b, end)", _bits),
    "thermometer, weighed": (f"{_BITS} m = MatMul (b, ones) s = Squeeze (m, end)", _bits),
    "thermometer, as features": (f"{_BITS} g = Reshape (b, wide) s = MatMul (g, fold)", _bits),
    "nearest": (
        "u = Unsqueeze (h, end) d = Sub (u, marks) q = Mul (d, d) "
        "k = ArgMin <axis = 2, keepdims = 0> (q) s = Gather (marks, k)",
        _nearest,
    ),
    "nearest, in front": (
        "u = Unsqueeze (h, last) d = Sub (u, upright) q = Abs (d) n = Neg (q) "
        "o = Hardmax <axis = 1> (n) t = Transpose <perm = [0, 2, 1]> (o) m = MatMul (t, column) "
        "s = Squeeze (m, end)",
        _nearest,
    ),
    "table": (f"{_PLACE} s = Gather (table, k)", _looked_up),
    "rows of a table": (
        f"{_PLACE} r = Gather (rows, k) m = MatMul (r, back) s = Squeeze (m, end)",
        _looked_up,
    ),
    "one-hot": (
        f"{_PLACE} o = OneHot <axis = -1> (k, seven, off_on) m = MatMul (o, listed) "
        "s = Squeeze (m, end)",
        _looked_up,
    ),
}


def model_of(text: str, v: np.ndarray, w: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 20]> f (float[N, 4] x) => (float[N, 3] y)
        <float half = {{0.5}}, float zero = {{0.0}}, float one = {{1.0}}, float many = {{200.0}},
         float large = {{6291456.0}},
         float forty = {{40.0}}, float three = {{3.0}}, float small = {{0.01}},
         float six = {{6.0}}, int8 none = {{0}}, float fine = {{0.03}}, uint8 under = {{0}},
         int64[1] last = {{1}}, int64[1] end = {{2}}, int64 seven = {{7}},
         float[2] off_on = {{0.0, 1.0}}, int64[2] wide = {{-1, 90}}>
        {{ h = MatMul (x, v)  {text}  y = MatMul (s, w) }}"""
    )
    for name, values in {"v": v, "w": w, **ROWS}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def mean_secant(
    function: Function, h: np.ndarray, widths: Sequence[float], weights: Sequence[float] | None
) -> np.ndarray:
    spread = h.std(axis=1, keepdims=True)
    slopes = [
        (function(h + width * spread) - function(h - width * spread)) / (2 * width * spread)
        for width in widths
    ]
    return np.average(slopes, axis=0, weights=weights)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), near=st.booleans())
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_by_secants_where_the_derivative_tells_less(name: str, seed: int, near: bool) -> None:
    text, function = FUNCTIONS[name]
    rng = np.random.default_rng(seed)
    v, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 30), (30, 3)))
    x = rng.standard_normal((6, 4)).astype(np.float32)
    # ∂logits/∂x comes with a seed from outside, so that only the middle is in question.
    spec = GradientSpec("x", "y", loss=None, straight_through=True, near=near)
    session = Session(build_gradient(model_of(text, v, w), {"x": x.shape}, spec), Device("cpu"))
    seeds = rng.standard_normal((6, 3)).astype(np.float32)
    found = session.run({"x": x, "cloakify_logits_gradient": seeds}, [LOGITS, GRADIENT])
    h = (x @ v).astype(np.float64)
    # What is computed is the model as it is.
    off = np.abs(h - np.rint(2 * h) / 2).min(axis=1) > 1e-4
    np.testing.assert_allclose(found[LOGITS][off], (function(h) @ w)[off], rtol=1e-3, atol=1e-3)
    mean = mean_secant(function, h, WIDTHS, None)
    widths = (*NARROWER, *WIDTHS) if near else WIDTHS
    closer = mean_secant(function, h, widths, [1 / width for width in widths] if near else None)
    step = 1e-3 * h.std(axis=1, keepdims=True)
    derivative = (function(h + step) - function(h - step)) / (2 * step)
    size, broad = np.abs(derivative), np.abs(mean)
    near_by = WIDTHS[0] * h.std(axis=1, keepdims=True)
    telling = (size >= 0.1 * broad) & (size <= 10 * broad)
    telling &= derivative * (function(h + near_by) - function(h - near_by)) >= 0
    slope = np.where(telling, derivative, np.where(size < 0.1 * broad, closer, mean))
    expected = ((seeds @ w.T) * slope) @ v.T
    # Where float32 puts a step or a bend on the other side of a number.
    ends = np.stack(
        [
            h + sign * width * h.std(axis=1, keepdims=True)
            for width in (*widths, 1e-3, 0)
            for sign in (1, -1)
        ]
    )
    clear = (np.abs(ends - np.rint(2 * ends) / 2) > 1e-4).all(axis=(0, 2))
    if name == "thermometer, as features":
        # Each threshold is a function of its own: of one a step is there, and others are level.
        clear &= (size == 0).all(axis=1)
    for times in (0.1, 10):
        clear &= (np.abs(size - times * broad) > 1e-3).all(axis=1)
    np.testing.assert_allclose(found[GRADIENT][clear], expected[clear], rtol=2e-2, atol=2e-2)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    v, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 30), (30, 3)))
    x = rng.standard_normal((5, 4)).astype(np.float32)
    spec = GradientSpec("x", "y", loss="margin", straight_through=True)
    model = model_of(FUNCTIONS["choice"][0], v, w)
    feeds = {"x": x, LABELS: np.zeros(5, np.int64)}
    together = Session(build_gradient(model, {"x": (5, 4)}, spec), Device("cpu")).run(feeds)
    alone = Session(build_gradient(model, {"x": (1, 4)}, spec), Device("cpu"))
    for row in range(5):
        one = alone.run({name: values[row : row + 1] for name, values in feeds.items()})
        np.testing.assert_allclose(one[GRADIENT][0], together[GRADIENT][row], rtol=1e-4, atol=1e-6)


def test_only_where_it_is_asked_for() -> None:
    model = model_of("s = Round (h)", np.ones((4, 5), np.float32), np.ones((5, 3), np.float32))
    with pytest.raises(NoGradientError):
        build_gradient(model, {"x": (2, 4)}, GradientSpec("x", "y"))
    build_gradient(model, {"x": (2, 4)}, GradientSpec("x", "y", straight_through=True))


@pytest.mark.parametrize(
    "text", ["s = Tanh (h)", "s = Sigmoid (h)", "a = Sigmoid (h) s = Mul (h, a)"]
)
def test_gentle_bends_keep_their_derivative(text: str) -> None:
    rng = np.random.default_rng(0)
    v, w = (0.3 * rng.standard_normal(shape).astype(np.float32) for shape in ((4, 30), (30, 3)))
    x, labels = rng.standard_normal((6, 4)).astype(np.float32), np.zeros(6, np.int64)
    found = [
        Session(
            build_gradient(
                model_of(text, v, w),
                {"x": x.shape},
                GradientSpec("x", "y", loss="margin", straight_through=through),
            ),
            Device("cpu"),
        ).run({"x": x, LABELS: labels}, [GRADIENT])[GRADIENT]
        for through in (False, True)
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=0.02, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        # The choice hangs on a mean of all features, so it is no function of one.
        "m = ReduceMean (h, last) c = Less (h, m) s = Where (c, m, h)",
        "m = ReduceMean (h, last) c = Greater (h, m) k = Cast <to = 1> (c) s = Mul (h, k)",
    ],
)
def test_choices_of_the_data_are_gone_through_both_ways(text: str) -> None:
    """What is not chosen gets the gradient of what would be."""
    rng = np.random.default_rng(0)
    v, w = np.eye(4, dtype=np.float32), rng.standard_normal((4, 3)).astype(np.float32)
    x = rng.standard_normal((6, 4)).astype(np.float32)
    seeds = rng.standard_normal((6, 3)).astype(np.float32)
    spec = GradientSpec("x", "y", loss=None, straight_through=True)
    session = Session(build_gradient(model_of(text, v, w), {"x": x.shape}, spec), Device("cpu"))
    found = session.run({"x": x, "cloakify_logits_gradient": seeds}, [GRADIENT])[GRADIENT]
    through = seeds @ w.T
    if "Where" in text:
        through = through + through.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, through, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("s = Relu (h)", 0, 0),
        ("s = LeakyRelu (h)", 0, 0),
        ("s = Tanh (h)", 0, 0.05),
        ("a = Sigmoid (h) s = Mul (h, a)", 0, 0.01),
        ("s = Gelu (h)", 0, 0.01),
        ("s = HardSwish (h)", 0, 0.02),
        # |h| < 1/2 of a normal distribution with deviation 1: 38 %.
        (FUNCTIONS["choice"][0], 0.3, 0.46),
        (FUNCTIONS["product"][0], 0.3, 0.46),
        (FUNCTIONS["shrink"][0], 0.3, 0.46),
        (FUNCTIONS["two bends"][0], 0.3, 0.46),
        # All but what is next to a step.
        (FUNCTIONS["round"][0], 0.95, 1),
        (FUNCTIONS["whole"][0], 0.6, 1),
        # Steps of half a deviation, and such as quantised models have; negative ones cut off are
        # a ReLU.
        (FUNCTIONS["eight bits"][0], 0.5, 0.7),
        ("q = QuantizeLinear (h, fine, none) s = DequantizeLinear (q, fine, none)", 0, 0.02),
        ("q = QuantizeLinear (h, fine, under) s = DequantizeLinear (q, fine, under)", 0, 0.02),
        (FUNCTIONS["steep"][0], 0.2, 0.5),
        # Waves on a line: far steeper than it as a rule, or half of them down where it goes up.
        ("k = Mul (h, many) u = Sin (k) t = Mul (u, half) s = Add (h, t)", 0.9, 1),
        ("k = Mul (h, many) u = Sin (k) t = Div (u, forty) s = Add (h, t)", 0.35, 0.5),
        ("k = Mul (h, many) u = Cos (k) t = Div (u, forty) s = Add (h, t)", 0.35, 0.5),
        # The parts of a saw that rise against a line.
        ("r = Mod <fmod = 1> (h, small) t = Mul (r, three) s = Sub (h, t)", 0.9, 1),
        ("s = Sin (h)", 0, 0.01),
        # The identity, by the root of what is negative for half of the numbers, where it is not
        # chosen, and by one that has none.
        (
            "r = Sqrt (h) q = Mul (r, r) c = Greater (h, zero) s = Where (c, q, h)",
            0.4,
            0.6,
        ),
        (
            "a = Abs (h) r = Sqrt (a) q = Mul (r, r) c = Greater (h, zero) s = Where (c, q, h)",
            0,
            0.02,
        ),
        # On either level of a clip at ±1/2, as far as it can be left by one deviation.
        ("k = Neg (half) s = Clip (h, k, half)", 0.2, 0.35),
    ],
)
def test_hidden_slopes_are_counted(text: str, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    v, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 30), (30, 3)))
    x = rng.standard_normal((64, 4)).astype(np.float32)
    # A deviation of 1 for each sample.
    x /= (x @ v).std(axis=1, keepdims=True)
    built = build_hidden_slopes(model_of(text, v, w), {"x": x.shape}, "x", "y")
    found = 0.0 if built is None else Session(built, Device("cpu")).run({"x": x})[HIDDEN].max()
    assert low <= found <= high


@pytest.mark.parametrize("kind", ["17", "18", "21", "22", "23"])
def test_steps_of_types_that_numpy_has_not(kind: str) -> None:
    """Floats of eight and four bits, and integers of four, are gone through as other steps are."""
    rng = np.random.default_rng(0)
    v, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 30), (30, 3)))
    model = model_of(f"i = Cast <to = {kind}> (h) s = Cast <to = 1> (i)", v, w)
    model.opset_import[0].version, model.ir_version = 23, 11
    assert build_hidden_slopes(model, {"x": (2, 4)}, "x", "y") is not None
    build_gradient(model, {"x": (2, 4)}, GradientSpec("x", "y", straight_through=True))
    with pytest.raises(NoGradientError):
        build_gradient(model, {"x": (2, 4)}, GradientSpec("x", "y"))
