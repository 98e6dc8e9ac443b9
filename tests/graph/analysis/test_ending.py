"""Where gates end in a model without a head: at class scores, and not at channels.

What gates do is written out in NumPy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper

from cloakify.graph.analysis.ending import ending_at
from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.edit.fold import fold_gates, settle_gates
from cloakify.graph.edit.gates import insert_gates
from cloakify.onnxfile import open_model
from cloakify.verification.gate_edit import ending_of, gate_facts, gate_faults

RNG = np.random.default_rng(5)
WEIGHTS = {
    "a": RNG.normal(size=(6, 8)),
    "b": RNG.normal(size=(6, 8)),
    "t": RNG.normal(size=(4, 8, 8)),
    "e": RNG.normal(size=(6, 3)),
    "m": RNG.normal(size=(6, 12)),
    "p": RNG.normal(size=(4, 8)),
    "h": RNG.normal(size=(6, 4)),
    "k": RNG.normal(size=(6, 4)),
    "s": RNG.normal(size=(6, 2)),
    "u": RNG.normal(size=(6, 2)),
}
BODIES = {
    "bilinear": (
        'f = MatMul (x, a)  g = MatMul (x, b)  y = Einsum <equation = "ni,kij,nj->nk"> (f, t, g)',
        ["f", "g"],
    ),
    "experts": (
        "w = MatMul (x, e)  r = Softmax (w)  q = Unsqueeze (r, one)  z = MatMul (x, m) "
        "v = Reshape (z, of)  o = MatMul (q, v)  y = Squeeze (o, one)",
        ["w", "z"],
    ),
    "distances": (
        "f = MatMul (x, a)  c = Unsqueeze (f, one)  d = Sub (c, p)  q = Mul (d, d) "
        "n = ReduceSum <keepdims = 0> (q, two)  y = Neg (n)",
        ["f"],
    ),
    # What they put out is scores of the classes.
    "gated scores": ("f = MatMul (x, h)  g = MatMul (x, k)  r = Sigmoid (g)  y = Mul (f, r)", []),
    "side by side": (
        "r = Tanh (x)  f = MatMul (x, s)  g = MatMul (r, u)  y = Concat <axis = 1> (f, g)",
        [],
    ),
}


def model_of(body: str) -> ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 6] x) => (float[N, 4] y) '
        "<int64[1] one = {1}, int64[1] two = {2}, int64[3] of = {0, 3, 4}> {" + body + "}"
    )
    for name, values in WEIGHTS.items():
        if any(name in node.input for node in model.graph.node):
            tensor = numpy_helper.from_array(values.astype(np.float32), name)
            model.graph.initializer.append(tensor)
    return model


def scores_of(model: ModelProto) -> str:
    """Return the value in front of what only moves scores."""
    return {"Squeeze": "o"}.get(model.graph.node[-1].op_type, "y")


@pytest.mark.parametrize("kind", BODIES)
def test_layers_that_put_out_no_scores_are_gated(kind: str) -> None:
    body, gated = BODIES[kind]
    model = model_of(body)
    found = find_gate_sites(model, ending_at(model, scores_of(model)))
    assert sorted(site.output for site in found) == gated


@pytest.mark.parametrize("put_in", [insert_gates, fold_gates])
def test_gates_of_a_bilinear_form(put_in: object) -> None:
    model = model_of(BODIES["bilinear"][0])
    sites = find_gate_sites(model, ending_at(model, "y"))
    gates = [RNG.uniform(0.5, 2, site.channels) for site in sites]
    made = (fold_gates if put_in is fold_gates else insert_gates)(model, sites, gates, {})
    x = RNG.normal(size=(7, 6)).astype(np.float32)
    (told,) = ort.InferenceSession(made.SerializeToString()).run(None, {"x": x})
    by = dict(zip((site.output for site in sites), gates, strict=True))
    f, g = x @ WEIGHTS["a"] * by["f"], x @ WEIGHTS["b"] * by["g"]
    np.testing.assert_allclose(told, np.einsum("ni,kij,nj->nk", f, WEIGHTS["t"], g), rtol=1e-3)


@pytest.mark.parametrize("emit", ["mul", "fold"])
def test_files_from_before_last_layers_had_gates_are_proven(tmp_path: Path, emit: str) -> None:
    body = "r = MatMul (x, d)  i = Tanh (r)  " + BODIES["bilinear"][0].replace("(x, ", "(i, ")
    model = model_of(body)
    tensor = numpy_helper.from_array(RNG.normal(size=(6, 6)).astype(np.float32), "d")
    model.graph.initializer.append(tensor)
    onnx.save(model, tmp_path / "m.onnx")
    source = open_model(tmp_path / "m.onnx")
    now = ending_at(source.model, "y")
    outputs = []
    for ending in (now, now.before_layers):
        sites = find_gate_sites(source.model, ending, shifts=True)
        outputs.append(sorted({site.output for site in sites}))
        sites = [site for site in sites if emit == "mul" or site.foldable]
        gates = [np.full(site.channels, 0.25 if site.adds else 0.5) for site in sites]
        gates = list(settle_gates(source.model, sites, gates)) if emit == "fold" else gates
        said = {
            "version": "0.1.0",
            "attack": "pgd",
            "eps": "0.1",
            "seed": "0",
            "head": "y",
            "data.sha256": "0" * 64,
            "source.sha256": source.sha256,
            "method": "tuned",
            "emit": emit,
            "layers": "all",
            "gates": "channel",
            **gate_facts(sites, gates, shifts=True),
        }
        make = fold_gates if emit == "fold" else insert_gates
        made = make(source.model, sites, gates, said)
        assert ending_of(source.model, now, said) == ending
        assert gate_faults(source, made, ending_of(source.model, now, said)) == []
    assert outputs == [["f", "g", "r"], ["r"]]
