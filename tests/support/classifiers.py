"""Small classifiers in ONNX text, opened as targets of attacks."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.attacks import Target, ThreatModel, make_threat
from cloakify.data import Preprocessing
from cloakify.graph.analysis.classifier_search import Wanted, find_classifier
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.runtime import resolve_device

Array = NDArray[np.float32]


def linear_classifier(weight: Array, bias: Array, kind: str = "float") -> ModelProto:
    """x [N, D] · weight [D, C] + bias [C]; ``float16`` is the type of x and of the logits only."""
    features, classes = weight.shape
    inner = "float" if kind == "float16" else kind
    to = {"float": 1, "double": 11}[inner], {"float": 1, "float16": 10, "double": 11}[kind]
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f ({kind}[N, {features}] x) => ({kind}[N, {classes}] y)
        <{_tensor("w", weight, inner)}, {_tensor("b", bias, inner)}>
        {{
            wide = Cast <to = {to[0]}> (x)
            logits = Gemm(wide, w, b)
            y = Cast <to = {to[1]}> (logits)
        }}"""
    )


def mlp_classifier(seed: int, features: int, classes: int, width: int = 16) -> ModelProto:
    """Two layers of random weights with a smooth bend between."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((features, width)) * 2
    second = rng.standard_normal((width, classes))
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, {features}] x) => (float[N, {classes}] logits)
        <{_tensor("w1", first)}, {_tensor("b1", -first.sum(axis=0) / 2)}, {_tensor("w2", second)}>
        {{
            a = Gemm(x, w1, b1)
            h = Tanh(a)
            logits = MatMul(h, w2)
        }}"""
    )


def target_of(
    model: ModelProto,
    batch_size: int = 16,
    threads: int = 2,
    wanted: Wanted | None = None,
    needs_head: bool = True,
) -> Target:
    """Open a model on so many cores of the CPU."""
    found = find_classifier(model, wanted, needs_head=needs_head)
    scores = found.scores
    model = with_class_scores(model, found)
    return Target(
        model,
        find_input(model),
        scores,
        resolve_device("cpu"),
        batch_size=batch_size,
        threads=threads,
    )


def threat_of(
    target: Target,
    norm: str,
    eps: float,
    box: tuple[float, float] | None = (0.0, 1.0),
    preprocessing: Preprocessing | None = None,
) -> ThreatModel:
    """Return a budget for a target."""
    return make_threat(norm, eps, target.spec, preprocessing or Preprocessing(), box)


def _tensor(name: str, values: Array, kind: str = "float") -> str:
    shape = ", ".join(map(str, values.shape))
    numbers = ", ".join(repr(float(value)) for value in np.asarray(values, np.float64).ravel())
    return f"{kind}[{shape}] {name} = {{{numbers}}}"
