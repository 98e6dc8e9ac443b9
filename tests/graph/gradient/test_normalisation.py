"""Gradient rules of normalisation layers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloakify.errors import UnsupportedOperatorError
from tests.support.gradcheck import check_gradient, gradient_model
from tests.support.onnxtext import attributes, constant, one_node, unknown
from tests.support.ortcheck import check_both

EPSILONS = st.sampled_from([1e-5, 1e-2, 0.3])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


@settings(max_examples=15, deadline=None)
@given(hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), EPSILONS, st.booleans())
def test_batch_normalization(shape: tuple[int, ...], epsilon: float, fixed: bool) -> None:
    """Of images, with numbers that the file holds, it is another operator that goes back."""
    count = shape[1]
    values = {name: normal(count, seed=place) for place, name in enumerate("sbm")}
    values["v"] = np.abs(normal(count)) + 0.1
    kinds = ", ".join(f"double[{count}] {name}" for name in values)
    stored = ", ".join(constant("double", n, [count], each.tolist()) for n, each in values.items())
    x = f"{unknown('double', len(shape))} x"
    text = one_node(
        f"y = BatchNormalization{attributes(epsilon=epsilon)}(x, s, b, m, v)",
        x if fixed else f"{x}, {kinds}",
        constants=stored if fixed else "",
    )
    check_both(text, {"x": normal(*shape)} | ({} if fixed else values), ["x"])


def test_batch_normalization_in_training_mode_is_refused() -> None:
    text = one_node(
        "y, m2, v2 = BatchNormalization<training_mode: int = 1>(x, s, b, m, v)",
        "float[?, ?] x, float[3] s, float[3] b, float[3] m, float[3] v",
    ).replace("double y", "float y")
    shapes = {"x": (2, 3), **dict.fromkeys("sbmv", (3,))}
    with pytest.raises(UnsupportedOperatorError, match="training mode"):
        gradient_model(onnx.parser.parse_model(text), shapes, ["x"])


@settings(max_examples=20, deadline=None)
@given(
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=2, max_side=4),
    st.integers(-4, 3),
    st.booleans(),
    EPSILONS,
)
def test_layer_normalization(shape: tuple[int, ...], axis: int, bias: bool, epsilon: float) -> None:
    rank = len(shape)
    axis = max(-rank, min(axis, rank - 1))
    inner = shape[axis % rank :]
    kind = unknown("double", len(inner))
    text = one_node(
        f"y = LayerNormalization{attributes(axis=axis, epsilon=epsilon)}(x, s{', b' * bias})",
        f"{unknown('double', rank)} x, {kind} s" + f", {kind} b" * bias,
    )
    feeds = {"x": normal(*shape), "s": normal(*inner, seed=1)}
    check_both(text, feeds | ({"b": normal(*inner, seed=2)} if bias else {}))


def test_layer_normalization_far_from_zero() -> None:
    text = one_node(
        "y = LayerNormalization(x, s)", "double[?, ?] x", constants="double[4] s = {1, 2, 3, 4}"
    )
    check_both(text, {"x": 30 + normal(3, 4)}, tolerance=1e-3)


def test_layer_normalization_as_torch() -> None:
    torch = pytest.importorskip("torch")
    from onnx.reference import ReferenceEvaluator

    x, scale, seed = normal(2, 3, 8), normal(8, seed=1), normal(2, 3, 8, seed=2)
    text = one_node("y = LayerNormalization(x, s)", "double[?, ?, ?] x, double[8] s")
    shapes = {"x": x.shape, "s": scale.shape}
    model = gradient_model(onnx.parser.parse_model(text), shapes, ["x"])
    found = ReferenceEvaluator(model).run(None, {"x": x, "s": scale, "seed_y": seed})[0]
    tensor = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.layer_norm(tensor, (8,), torch.tensor(scale))
    expected = torch.autograd.grad(y, tensor, torch.tensor(seed))[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-9)


def test_logits_that_depend_on_a_layers_mean_are_refused() -> None:
    text = one_node(
        "z, m = LayerNormalization(x, s) y = Add(z, m)", "float[?, ?] x, float[4] s"
    ).replace("double y", "float y")
    with pytest.raises(UnsupportedOperatorError, match="mean"):
        gradient_model(onnx.parser.parse_model(text), {"x": (2, 4), "s": (4,)}, ["x"])


@settings(max_examples=15, deadline=None)
@given(hnp.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=4), st.integers(-3, 2))
def test_rms_normalization(shape: tuple[int, ...], axis: int) -> None:
    rank = len(shape)
    axis = max(-rank, min(axis, rank - 1))
    inner = shape[axis % rank :]
    text = one_node(
        f"y = RMSNormalization{attributes(axis=axis)}(x, s)",
        f"{unknown('double', rank)} x, {unknown('double', len(inner))} s",
        opset=23,
    )
    check_gradient(text, {"x": normal(*shape), "s": normal(*inner, seed=1)})


@settings(max_examples=10, deadline=None)
@given(hnp.array_shapes(min_dims=3, max_dims=5, min_side=2, max_side=3), EPSILONS)
def test_instance_normalization(shape: tuple[int, ...], epsilon: float) -> None:
    channels = shape[1]
    text = one_node(
        f"y = InstanceNormalization{attributes(epsilon=epsilon)}(x, s, b)",
        f"{unknown('double', len(shape))} x, double[{channels}] s, double[{channels}] b",
    )
    feeds = {"x": normal(*shape), "s": normal(channels, seed=1), "b": normal(channels, seed=2)}
    check_both(text, feeds, ["x"])


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("space", [(), (4,), (2, 3)])
@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(groups: int, space: tuple[int, ...], opset: int) -> None:
    if groups == 6 and not space:
        return  # groups of a single element
    length = groups if opset == 18 else 6
    text = one_node(
        f"y = GroupNormalization{attributes(num_groups=groups, epsilon=0.1)}(x, s, b)",
        f"{unknown('double', 2 + len(space))} x, double[{length}] s, double[{length}] b",
        opset=opset,
    )
    feeds = {"x": normal(2, 6, *space), "s": normal(length, seed=1), "b": normal(length, seed=2)}
    check_both(text, feeds, ["x"])


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_lp_normalization(order: int, axis: int) -> None:
    text = one_node(f"y = LpNormalization{attributes(axis=axis, p=order)}(x)", "double[?, ?, ?] x")
    check_both(text, {"x": normal(2, 3, 4)})


def test_lp_normalization_of_zeros_has_gradient_zero() -> None:
    from onnx.reference import ReferenceEvaluator

    model = gradient_model(
        onnx.parser.parse_model(one_node("y = LpNormalization(x)")), {"x": (3,)}, ["x"]
    )
    feeds = {"x": np.zeros(3), "seed_y": np.ones(3)}
    assert ReferenceEvaluator(model).run(None, feeds)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_local_response_normalization(size: int, channels: int) -> None:
    settings_text = attributes(size=size, alpha=0.3, beta=0.6, bias=1.5)
    text = one_node(f"y = LRN{settings_text}(x)", "double[?, ?, ?, ?] x")
    # The runtime takes odd sizes only.
    (check_both if size % 2 else check_gradient)(text, {"x": normal(2, channels, 3, 2)})


@pytest.mark.parametrize("axes", [[0, 2, 3], [2, 3], [1]])
def test_mean_variance_normalization(axes: list[int]) -> None:
    text = one_node(
        f"y = MeanVarianceNormalization{attributes(axes=axes)}(x)", "double[?, ?, ?, ?] x"
    )
    check_gradient(text, {"x": normal(2, 3, 2, 4)})
