"""Sources that ONNX Runtime runs and onnx's checker refuses: what is put in gives no other reason.

What a hardened file of one computes is written out in NumPy, and what the checker says of either
file is asked of the checker.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper

from cloakify.errors import ModelError
from cloakify.graph.edit.mask import find_mask
from cloakify.settings import HardenSetting
from cloakify.verification.mask_edit import check_valid
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.normal(size=(8, 3, 1, 1)),
    "s": np.array([1.0, 0.7]),
    "b": np.array([0.1, -0.2]),
    "h": RNG.normal(size=(8, 4)),
}
SAMPLES = RNG.random((96, 3, 6, 6), np.float32)


def groups(opset: int) -> ModelProto:
    """Return a network with one scale a group, which onnx calls deprecated."""
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {opset}]> net (float[N, 3, 6, 6] x) => '
        "(float[N, 4] y) { c = Conv (x, w)  g = GroupNormalization <num_groups = 2> (c, s, b) "
        "r = Relu (g)  p = GlobalAveragePool (r)  f = Flatten (p)  y = MatMul (f, h) }"
    )
    for name, values in WEIGHTS.items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return model


def nameless() -> ModelProto:
    """Return the same without a normalisation, in a graph without a name."""
    model = groups(18)
    nodes = {node.op_type: node for node in model.graph.node}
    nodes["Relu"].input[0] = "c"
    model.graph.node.remove(nodes["GroupNormalization"])
    del model.graph.initializer[1:3]
    model.graph.name = ""
    return model


def scores(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Write the network with groups out."""
    c = np.einsum("oi,nihw->nohw", WEIGHTS["w"][:, :, 0, 0], x.astype(np.float64))
    grouped = c.reshape(len(x), 2, -1)
    spread = np.sqrt(grouped.var(axis=2, keepdims=True) + 1e-5)
    normed = (grouped - grouped.mean(axis=2, keepdims=True)) / spread
    normed = normed * WEIGHTS["s"][None, :, None] + WEIGHTS["b"][None, :, None]
    features = np.maximum(normed.reshape(c.shape), 0).mean(axis=(2, 3))
    return (features * mask) @ WEIGHTS["h"]


def objection(path: Path) -> str:
    with pytest.raises(onnx.checker.ValidationError) as raised:
        onnx.checker.check_model(onnx.load(path))
    return str(raised.value)


@pytest.mark.parametrize(
    ("method", "made"),
    [
        ("deepcloak", "groups, 18"),
        ("deepcloak", "groups, 20"),
        ("deepcloak", "no name"),
        ("tuned", "no name"),
    ],
)
def test_what_the_checker_refuses_in_the_source_is_hardened(
    tmp_path: Path, method: str, made: str
) -> None:
    model = nameless() if made == "no name" else groups(int(made[-2:]))
    source, output, data = (tmp_path / name for name in ("m.onnx", "h.onnx", "d.npz"))
    onnx.save(model, source)
    np.savez(data, x=SAMPLES)
    options = {"method": "tuned", "tune_steps": 40, "max_accuracy_drop": 0.5, "write_anyway": True}
    if method == "deepcloak":
        options = {"mask_ratio": 0.25}
    setting = HardenSetting(eps=0.1, effort="quick", device="cpu", labels="model", **options)
    report = harden(source, data, output, setting=setting).report
    assert objection(output) == objection(source)
    assert any("onnx's checker" in note for note in report.notes)
    assert not verify(output, source).faults
    if method == "deepcloak" and made != "no name":
        hardened = onnx.load(output)
        installed = find_mask(hardened)
        assert installed is not None
        (told,) = ort.InferenceSession(output).run(None, {"x": SAMPLES})
        np.testing.assert_allclose(told, scores(SAMPLES, installed.values), atol=1e-4)


def test_another_reason_than_the_source_gives_is_a_fault() -> None:
    source = groups(18)
    hardened = groups(18)
    assert "deprecated" in str(check_valid(source, hardened, "it"))
    hardened.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="it does not pass onnx's checker: No Op"):
        check_valid(source, hardened, "it")
