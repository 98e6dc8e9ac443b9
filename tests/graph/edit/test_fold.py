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
from cloakify.graph.edit.fold import fold_gates, recover_gates, round_gates, settle_gates
from cloakify.graph.edit.gates import insert_gates
from cloakify.graph.lowering.run_once import run_once
from cloakify.onnxfile import compare_models
from tests.support.gate_models import CNN, TRANSFORMER, filled


def foldable(model: ModelProto) -> list[GateSite]:
    return [site for site in find_gate_sites(model, find_head(model).head) if site.foldable]


def random_gates(sites: list[GateSite], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [round_gates(np.exp(rng.normal(0, 0.5, site.channels))) for site in sites]


def close_channel(model: ModelProto, weight: str, channel: int) -> None:
    """Set the weights of a channel to zero."""
    tensor = next(t for t in model.graph.initializer if t.name == weight)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[channel] = 0
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, weight))


@pytest.mark.parametrize(("text", "shape"), [(CNN, (4, 3, 6, 6)), (TRANSFORMER, (4, 5, 4))])
def test_fold_computes_what_the_gates_do(text: str, shape: tuple[int, ...]) -> None:
    model = filled(text)
    sites = foldable(model)
    gates = random_gates(sites)
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
    folded = fold_gates(model, sites, random_gates(sites), {})
    names = {name for site in sites for name, _ in site.scaled}
    assert {d.path for d in compare_models(model, folded)} == {
        f"graph.initializer[{name}].raw_data" for name in names
    }


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64, np.float16]))
def test_factors_are_recovered_exactly(seed: int, dtype: type) -> None:
    model = filled(CNN, seed)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    element_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = element_type
    sites = foldable(model)
    gates = random_gates(sites, seed)
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
    tensor = next(t for t in model.graph.initializer if t.name == "w3")
    tensor.data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="'w3' lies outside the message; read it first"):
        fold_gates(model, sites, random_gates(sites), {})
