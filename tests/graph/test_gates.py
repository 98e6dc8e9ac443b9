"""Where gates can stand, putting them in, taking them out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from cloakify.errors import ModelError, UsageError
from cloakify.graph.evaluate import run_once
from cloakify.graph.gate_sites import GateSite, choose_sites, find_gate_sites
from cloakify.graph.gates import (
    gates_digest,
    has_gates,
    insert_gates,
    open_gates,
    read_gates,
    strip_gates,
)
from cloakify.graph.head import find_head
from tests.support.gate_models import CNN, TRANSFORMER, filled


def sites_of(model: ModelProto) -> list[GateSite]:
    return find_gate_sites(model, find_head(model).head)


def random_gates(sites: list[GateSite], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.5, 1.5, site.channels).astype(np.float32) for site in sites]


def test_sites_of_a_cnn() -> None:
    sites = sites_of(filled(CNN))
    assert [(site.op_type, site.output, site.channels) for site in sites] == [
        # The convolution before the batch normalisation is gated behind that.
        ("BatchNormalization", "normal", 4),
        ("Conv", "depth", 4),
        ("Gemm", "hidden", 5),
    ]
    assert [site.shape for site in sites] == [(1, 4, 1, 1), (1, 4, 1, 1), (5,)]
    assert all(site.foldable for site in sites)
    assert sites[0].scaled == (("scale", 0), ("shift", 0))
    assert sites[2].scaled == (("w3", 0), ("b3", -1))


def test_sites_of_a_transformer() -> None:
    sites = sites_of(filled(TRANSFORMER))
    assert [(site.op_type, site.output, site.foldable) for site in sites] == [
        ("LayerNormalization", "normal", True),
        ("MatMul", "q", True),
        # Keys and values are projected by one and the same weight.
        ("MatMul", "k", False),
        ("MatMul", "v", False),
        ("MatMul", "mixed_b", True),
    ]
    assert sites[4].scaled == (("wo", 1), ("bo", -1))


def test_layers_by_pattern() -> None:
    sites = sites_of(filled(TRANSFORMER))
    assert choose_sites(sites, "all") == sites
    assert [site.output for site in choose_sites(sites, "m*")] == ["mixed_b"]
    with pytest.raises(UsageError, match="matches no layer; there are 'normal'"):
        choose_sites(sites, "conv*")


@pytest.mark.parametrize("text", [CNN, TRANSFORMER])
def test_gates_of_one_change_no_bit(text: str) -> None:
    model = filled(text)
    sites = sites_of(model)
    gated = insert_gates(model, sites, [np.ones(site.channels) for site in sites], {})
    onnx.checker.check_model(gated, full_check=True)
    x = {model.graph.input[0].name: np.random.default_rng(1).random((2, 3, 6, 6), np.float32)}
    if text is TRANSFORMER:
        x = {"x": np.random.default_rng(1).random((2, 5, 4), np.float32)}
    (before,), (after,) = run_once(model, x), run_once(gated, x)
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("text", [CNN, TRANSFORMER])
def test_stripping_gives_the_source_back(text: str) -> None:
    model = filled(text)
    sites = sites_of(model)
    gates = random_gates(sites)
    gated = insert_gates(model, sites, gates, {"method": "tuned"})
    assert has_gates(gated) and not has_gates(model)
    assert strip_gates(gated).SerializeToString() == model.SerializeToString()
    for found, given in zip(read_gates(gated), gates, strict=True):
        np.testing.assert_array_equal(found, given)
    assert gates_digest(read_gates(gated)) == gates_digest(gates)


def test_open_gates_are_inputs() -> None:
    model = filled(CNN)
    sites = sites_of(model)
    gates = random_gates(sites)
    gated = insert_gates(model, sites, gates, {})
    opened = open_gates(gated)
    x = np.random.default_rng(2).random((2, 3, 6, 6), np.float32)
    feeds = {
        f"cloakify_gate_{k}": values.reshape(site.shape)
        for k, (site, values) in enumerate(zip(sites, gates, strict=True))
    }
    (expected,), (found,) = run_once(gated, {"x": x}), run_once(opened, {"x": x, **feeds})
    np.testing.assert_array_equal(found, expected)


def test_refusals() -> None:
    model = filled(CNN)
    sites = sites_of(model)
    gated = insert_gates(model, sites, random_gates(sites), {})
    with pytest.raises(ModelError, match="holds cloakify gates already"):
        insert_gates(gated, sites, random_gates(sites), {})
    with pytest.raises(ModelError, match="has 4 channels, not"):
        insert_gates(model, sites, [np.ones(3)] * 3, {})
    with pytest.raises(ModelError, match="no cloakify gates"):
        strip_gates(model)
    node = next(node for node in gated.graph.node if node.name == "cloakify_gate_mul_1")
    node.op_type = "Div"
    with pytest.raises(ModelError, match="number 1 is not one"):
        read_gates(gated)
