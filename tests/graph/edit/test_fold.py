"""Gates folded into weights: the same function, and reversible to the last bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.gate_sites import GateSite, find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.fold import fold_gates, recover_gates, settle_gates
from cloakify.graph.edit.gates import insert_gates
from cloakify.graph.edit.rounding import round_gates, round_shifts
from cloakify.graph.edit.taps import tap
from cloakify.graph.lowering.run_once import run_once
from cloakify.onnxfile import compare_models
from tests.support.gate_models import CNN, TRANSFORMER, filled

with_shifts = pytest.mark.parametrize("shifts", [False, True])


def foldable(model: ModelProto, shifts: bool = False) -> list[GateSite]:
    sites = find_gate_sites(model, find_head(model).head, shifts=shifts)
    return [site for site in sites if site.foldable]


def settled_gates(model: ModelProto, sites: list[GateSite], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = [(site.adds, rng.normal(0, 0.5, site.channels)) for site in sites]
    return settle_gates(model, sites, [each if adds else np.exp(each) for adds, each in drawn])


def close_channel(model: ModelProto, weight: str, channel: int) -> None:
    """Set the weights of a channel to zero."""
    tensor = next(t for t in model.graph.initializer if t.name == weight)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[channel] = 0
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, weight))


@with_shifts
@pytest.mark.parametrize(("text", "shape"), [(CNN, (4, 3, 6, 6)), (TRANSFORMER, (4, 5, 4))])
def test_fold_computes_what_the_gates_do(text: str, shape: tuple[int, ...], shifts: bool) -> None:
    model = filled(text)
    sites = foldable(model, shifts)
    gates = settled_gates(model, sites)
    x = {"x": np.random.default_rng(1).random(shape, np.float32)}
    (plain,) = run_once(model, x)
    (mul,) = run_once(insert_gates(model, sites, gates, {}), x)
    (fold,) = run_once(fold_gates(model, sites, gates, {}), x)
    assert np.abs(fold - plain).max() > 1e-2
    np.testing.assert_allclose(fold, mul, rtol=1e-5, atol=1e-5 * np.abs(mul).max())


@pytest.mark.parametrize("text", [CNN, TRANSFORMER])
def test_only_weights_of_gated_layers_change(text: str) -> None:
    model = filled(text)
    sites = foldable(model)
    folded = fold_gates(model, sites, settled_gates(model, sites), {})
    names = {name for site in sites for name, _ in site.scaled}
    assert {d.path for d in compare_models(model, folded)} == {
        f"graph.initializer[{name}].raw_data" for name in names
    }


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64, np.float16]),
    st.booleans(),
    st.floats(-4, 4),
)
def test_factors_and_shifts_are_recovered_exactly(
    seed: int, dtype: type, shifts: bool, power: float
) -> None:
    """Also where a shift is far larger or smaller than the bias that takes it up."""
    model = filled(CNN, seed)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if shifts and tensor.name in ("shift", "b3"):
            values = values * 10**power
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(dtype), tensor.name))
    element_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = element_type
    sites = foldable(model, shifts)
    gates = settled_gates(model, sites, seed)
    folded = fold_gates(model, sites, gates, {})
    for found, wanted in zip(recover_gates(model, folded, sites), gates, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_channels_of_zeros_are_settled() -> None:
    model = filled(CNN)
    sites = foldable(model)
    close_channel(model, "w2", 2)
    gates = settle_gates(model, sites, [np.full(site.channels, 0.75) for site in sites])
    assert gates[2].tolist() == [0.75, 0.75, 1, 0.75]
    found = recover_gates(model, fold_gates(model, sites, gates, {}), sites)
    assert [values.tolist() for values in found] == [values.tolist() for values in gates]


def test_a_bias_without_weights_takes_up_both_gates() -> None:
    model = filled(CNN)
    sites = foldable(model)
    close_channel(model, "w3", 1)
    given = [np.full(site.channels, 0.75) for site in sites]
    gates = settle_gates(model, sites, given)
    assert gates[3].tolist() == [0.75, 1, 0.75, 0.75, 0.75]
    assert gates[4].tolist() == [0.75, 0.5625, 0.75, 0.75, 0.75]
    folded = fold_gates(model, sites, gates, {})
    found = recover_gates(model, folded, sites)
    assert [values.tolist() for values in found] == [values.tolist() for values in gates]
    x = {"x": np.random.default_rng(1).random((4, 3, 6, 6), np.float32)}
    (expected,) = run_once(insert_gates(model, sites, given, {}), x)
    np.testing.assert_allclose(run_once(folded, x)[0], expected, rtol=1e-5, atol=1e-5)


def test_gates_of_zero_are_recovered() -> None:
    model = filled(CNN)
    sites = foldable(model)
    given = [np.resize([0.0, 1.0], site.channels).astype(np.float32) for site in sites]
    gates = settle_gates(model, sites, given)
    # Of a channel that is closed, the bias's gate says nothing any more.
    assert [values.min() for values in gates] == [1 if site.bias else 0 for site in sites]
    found = recover_gates(model, fold_gates(model, sites, gates, {}), sites)
    assert [values.tolist() for values in found] == [values.tolist() for values in gates]


def test_a_layer_without_a_bias_gets_one() -> None:
    model = filled(CNN)
    sites = foldable(model, shifts=True)
    gates = settled_gates(model, sites)
    folded = fold_gates(model, sites, gates, {})
    onnx.checker.check_model(folded, full_check=True)
    nodes = [node.op_type for node in folded.graph.node]
    assert nodes == [node.op_type for node in model.graph.node]
    (depth,) = (node for node in folded.graph.node if "depth" in node.output)
    assert list(depth.input) == ["active", "w2", "cloakify_bias_3"]
    names = {tensor.name for tensor in model.graph.initializer}
    new = [tensor for tensor in folded.graph.initializer if tensor.name not in names]
    assert [tensor.name for tensor in new] == ["cloakify_bias_3"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(new[0]), gates[3])
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "cloakify_bias_3"
    with pytest.raises(ModelError, match="a value called 'cloakify_bias_3' of its own"):
        fold_gates(model, sites, gates, {})


BIASLESS = """
<ir_version: 3, opset_import: ["" : 17]>
net (float[N,2,4,4] x, float[2,3,2,2] w1, float[3] w2, float[3,5] w3, float[5,4] w4, float[4,3] wh)
    => (float[N,3] logits)
{
    wide = ConvTranspose (x, w1)
    last = Transpose <perm = [0, 2, 3, 1]> (wide)
    normal = LayerNormalization <axis = -1> (last, w2)
    first = Transpose <perm = [0, 3, 1, 2]> (normal)
    pooled = GlobalMaxPool (first)
    flat = Flatten (pooled)
    hidden = Gemm (flat, w3)
    active = Relu (hidden)
    product = MatMul (active, w4)
    features = Relu (product)
    logits = Gemm (features, wh)
}
"""


def test_all_kinds_of_layers_that_can_get_a_bias() -> None:
    model = filled(BIASLESS)
    for tensor in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    sites = foldable(model, shifts=True)
    given = [site.output for site in sites if site.free_bias]
    # A product alone has no place for one: its gates are folded, its shifts can't be.
    assert given == ["wide", "normal", "hidden"] and sites[-1].output == "product"
    gates = settled_gates(model, sites)
    folded = fold_gates(model, sites, gates, {})
    onnx.checker.check_model(folded, full_check=True)
    assert [v.name for v in folded.graph.input][-3:] == [f"cloakify_bias_{k}" for k in (1, 3, 5)]
    x = {"x": np.random.default_rng(1).random((4, 2, 4, 4), np.float32)}
    (mul,) = run_once(insert_gates(model, sites, gates, {}), x)
    (fold,) = run_once(folded, x)
    np.testing.assert_allclose(fold, mul, rtol=1e-5, atol=1e-5 * np.abs(mul).max())
    for found, wanted in zip(recover_gates(model, folded, sites), gates, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("text", [CNN, BIASLESS])
def test_a_gemm_that_scales_its_bias_takes_no_shift(text: str) -> None:
    model = filled(text)
    gemm = next(node for node in model.graph.node if "hidden" in node.output)
    gemm.attribute.append(onnx.helper.make_attribute("beta", 2.0))
    sites = find_gate_sites(model, find_head(model).head, shifts=True)
    assert [site.foldable for site in sites if site.output == "hidden"] == [True, False]


def test_a_shift_takes_up_what_is_left_of_a_zero_channel() -> None:
    model = filled(CNN)
    sites = foldable(model, shifts=True)
    close_channel(model, "w3", 1)
    given = [np.full(site.channels, 0.75) for site in sites]
    gates = settle_gates(model, sites, given)
    assert gates[4].tolist() == [0.75, 1, 0.75, 0.75, 0.75]
    found = recover_gates(model, fold_gates(model, sites, gates, {}), sites)
    assert [values.tolist() for values in found] == [values.tolist() for values in gates]
    x = {"x": np.random.default_rng(1).random((4, 3, 6, 6), np.float32)}
    (expected,) = run_once(tap(insert_gates(model, sites, given, {}), ["hidden"]), x)
    (settled,) = run_once(tap(fold_gates(model, sites, gates, {}), ["hidden"]), x)
    np.testing.assert_allclose(settled, expected, rtol=2**-7, atol=2**-7)


@given(
    st.floats(-1e4, 1e4),
    st.one_of(st.just(0.0), st.floats(1e-4, 1e4), st.floats(-1e4, -1e-4)),
    st.sampled_from([np.float32, np.float64, np.float16]),
)
def test_a_shift_is_read_off_its_sum(shift: float, bias: float, dtype: type) -> None:
    stored = np.array([bias], dtype)
    size = np.abs(stored.astype(float))
    settled = round_shifts(np.array([shift]), size, dtype)
    assert abs(settled[0] - shift) <= max(2**-8 * abs(shift), 2**-7 * size[0], 2**-14)
    total = (stored.astype(float) + settled.astype(float)).astype(dtype)
    difference = total.astype(float) - stored.astype(float)
    assert round_shifts(difference, size, dtype).tobytes() == settled.tobytes()


@given(st.floats(1e-30, 1e30))
def test_rounding_is_fine_and_settled(value: float) -> None:
    once = round_gates(np.array([value]))
    assert abs(once[0] - value) <= 2**-9 * value
    assert round_gates(once)[0] == once[0]


def test_refusals() -> None:
    model = filled(TRANSFORMER)
    shared = [s for s in find_gate_sites(model, find_head(model).head) if not s.foldable]
    with pytest.raises(ModelError, match=r"'k': its weights serve other nodes too .*--emit mul"):
        fold_gates(model, shared[:1], [np.ones(4)], {})
    model = filled(CNN)
    sites = foldable(model)
    gates = settled_gates(model, sites)
    tensor = next(t for t in model.graph.initializer if t.name == "w3")
    tensor.data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="'w3' lies outside the message; read it first"):
        fold_gates(model, sites, gates, {})
