"""The proof by running: what a mask of ones shows, and what the mask itself does."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import MASK, insert_mask, mask_digest
from cloakify.runtime import Device
from cloakify.verification.mask_edit import TOLERANCE, runtime_faults, structural_faults
from tests.support.classifiers import mlp_classifier

BITS = "with a mask of ones the logits are not the source's to the bit"
CPU = Device("cpu")


def masked_pair(seed: int) -> tuple[ModelProto, ModelProto]:
    source = mlp_classifier(seed, features=6, classes=3, width=8)
    mask = np.ones(8)
    mask[seed % 8] = 0
    return source, insert_mask(source, find_head(source).head, mask, {})


def faults(source: ModelProto, hardened: ModelProto, seed: int) -> list[str]:
    x = np.random.default_rng(seed).random((5, 6), np.float32)
    return runtime_faults(source, hardened, find_head(source).head, {"x": x}, CPU)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_mask_alone_has_no_faults(seed: int) -> None:
    assert faults(*masked_pair(seed), seed) == []


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), weight=st.sampled_from(["w1", "b1", "w2"]))
def test_ones_show_what_is_lost_in_rounding(seed: int, weight: str) -> None:
    source, hardened = masked_pair(seed)
    (tensor,) = (tensor for tensor in hardened.graph.initializer if tensor.name == weight)
    values = onnx.numpy_helper.to_array(tensor)
    # Too little for the comparison of logits, and too much to be lost altogether.
    changed = (values * (1 + TOLERANCE / 20)).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed, weight))
    assert faults(source, hardened, seed) == [BITS]


@pytest.mark.parametrize("feature", range(8))
def test_a_mask_that_is_read_elsewhere_shows_in_the_logits(feature: int) -> None:
    source, hardened = masked_pair(0)
    nodes = {node.op_type: node for node in hardened.graph.node}
    # The mask is multiplied in twice: with ones nothing shows, with a mask of halves it does.
    mask = np.ones(8, np.float32)
    mask[feature] = 0.5
    (tensor,) = (tensor for tensor in hardened.graph.initializer if tensor.name == MASK)
    values = onnx.numpy_helper.from_array(mask.reshape(tuple(tensor.dims)), MASK)
    tensor.CopyFrom(values)
    head = hardened.graph.node[-1]
    twice = onnx.helper.make_node("Mul", [nodes["Mul"].output[0], MASK], ["twice"])
    head.input[0] = "twice"
    hardened.graph.node.insert(len(hardened.graph.node) - 1, twice)
    (fault,) = faults(source, hardened, 1)
    assert fault.startswith("the logits differ from head(φ ∘ m) by")


@given(
    st.lists(
        st.sampled_from([0.0, 1.0, 0.5, 2.0, 1e-40, -0.0, -1e-6, -1.0, math.nan, math.inf]),
        min_size=8,
        max_size=8,
    )
)
def test_a_mask_is_of_zeros_and_ones(values: list[float]) -> None:
    source = mlp_classifier(0, features=6, classes=3, width=8)
    head = find_head(source).head
    mask = np.array(values, np.float32)
    facts = {
        "version": "0.1.0",
        "source.sha256": "0" * 64,
        "head": head.node,
        "attack": "fgsm",
        "eps": "0.03",
        "seed": "0",
        "data.sha256": "0" * 64,
        "mask.sha256": mask_digest(mask),
        "mask.removed": str(values.count(0)),
        "mask.total": "8",
    }
    hardened = insert_mask(source, head, mask, facts)
    file: Any = SimpleNamespace(model=source, sha256="0" * 64)
    sound = set(values) <= {0.0, 1.0}
    fault = "the mask has entries that are neither 0 nor 1"
    assert structural_faults(file, hardened, head) == [fault] * (not sound)
    assert structural_faults(file, source, head) == ["the graph holds no cloakify mask"]
