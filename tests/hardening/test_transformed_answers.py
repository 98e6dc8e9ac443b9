"""A transformed file's labels, probabilities and maps follow from its scores as in its source."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array, to_array

from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import insert_mask, mask_digest
from cloakify.hardening.transformed_answers import apart
from cloakify.onnxfile import open_model
from cloakify.workflows.verify import Verification, verify
from tests.support.hardening import made_from

INPUTS, FEATURES, CLASSES = 6, 12, 4
MASK = (np.arange(FEATURES) % 3 != 0).astype(np.float32)
NAMES = string.ascii_lowercase[:CLASSES]
LABELS = ", ".join(f'"{name}"' for name in NAMES)

# Behind the scores s: what the source answers with, and other answers made of the same scores.
PLAIN = "p = Softmax (s) "
LABEL = "label = ArgMax <axis = 1, keepdims = 0> (s) "
OUTPUTS = {
    "probabilities": (f"float[N, {CLASSES}] p", PLAIN),
    "label first": (f"int64[N] label, float[N, {CLASSES}] p", PLAIN + LABEL),
    "names": (
        f"string[N] name, float[N, {CLASSES}] p",
        PLAIN + LABEL + "name = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1, 2, 3], "
        f"values_strings = [{LABELS}]> (label) ",
    ),
    "maps": (
        "int64[N] label, seq(map(int64, float)) m",
        PLAIN + LABEL + "m = ai.onnx.ml.ZipMap <classlabels_int64s = [0, 1, 2, 3]> (p) ",
    ),
}
TAMPERED = {
    "probabilities": [
        ("p = Softmax (s)", "q = Softmax (s)  p = Sub (one, q)"),
        ("p = Softmax (s)", "q = Softmax (s)  p = Neg (q)"),
        ("p = Softmax (s)", "q = Softmax (s)  p = Gather <axis = 1> (q, turned)"),
        ("p = Softmax (s)", "q = Softmax (s)  p = Mul (q, prior)"),
        ("p = Softmax (s)", "p = Softmax <axis = 0> (s)"),
        (f"float[N, {CLASSES}] p", f"float[N, {CLASSES}] p, float[N, {CLASSES}] z"),
    ],
    "label first": [
        ("ArgMax", "ArgMin"),
        ("label = ArgMax <axis = 1, keepdims = 0> (s)",
         "l = ArgMax <axis = 1, keepdims = 0> (s)  label = Mul (l, zero)"),
        (f"int64[N] label, float[N, {CLASSES}] p", f"float[N, {CLASSES}] p, int64[N] label"),
    ],
    "names": [('"a", "b", "c", "d"', '"d", "c", "b", "a"')],
    "maps": [("[0, 1, 2, 3]", "[3, 2, 1, 0]")],
}  # fmt: skip


def model_of(outputs: str, tail: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
        f"net (float[N, {INPUTS}] x) => ({outputs}) "
        f"{{ a = Gemm (x, v, c)  f = Relu (a)  z = MatMul (f, w)  s = Add (z, b)  {tail} }}"
    )
    rng = np.random.default_rng(0)
    shapes = {"v": (INPUTS, FEATURES), "c": (FEATURES,), "w": (FEATURES, CLASSES), "b": (CLASSES,)}
    for name, shape in shapes.items():
        values = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(from_array(values, name))
    constants = {
        "one": np.float32(1),
        "zero": np.int64(0),
        "turned": np.arange(CLASSES)[::-1].copy(),
        "prior": np.float32([1, 1, 1, 100]),
    }
    read = {name for node in model.graph.node for name in node.input}
    for name, value in constants.items():
        if name in read:
            model.graph.initializer.append(from_array(np.asarray(value), name))
    return model


def renamed_layer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Transformed without any effect: by a copy of the input."""
    for node in model.graph.node:
        node.input[:] = ["copy" if name == "x" else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Identity", ["x"], ["copy"], "copying"))
    return model


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Its weights are numbers of 8 bits behind DequantizeLinear."""
    for name in ("v", "w"):
        (tensor,) = (each for each in model.graph.initializer if each.name == name)
        values = to_array(tensor)
        scale = np.float32(np.abs(values).max() / 127)
        tensor.CopyFrom(from_array(np.rint(values / scale).astype(np.int8), name))
        model.graph.initializer.append(from_array(scale, f"{name}_scale"))
        for node in model.graph.node:
            node.input[:] = [f"{name}_real" if each == name else each for each in node.input]
        made = onnx.helper.make_node("DequantizeLinear", [name, f"{name}_scale"], [f"{name}_real"])
        model.graph.node.insert(0, made)
    return model


def judged(
    folder: Path,
    kind: str,
    how: Callable[[onnx.ModelProto], onnx.ModelProto],
    swap: tuple[str, str] = ("", ""),
) -> Verification:
    """Verify what another file, with the same scores, passes for."""
    source = folder / "source.onnx"
    onnx.save(model_of(*OUTPUTS[kind]), source)
    opened = open_model(source)
    head = find_head(opened.model).head
    facts = {
        "mask_sha256": mask_digest(MASK),
        "mask_removed": str(int((MASK == 0).sum())),
        "mask_total": str(FEATURES),
    }
    said = made_from(opened, head, **facts)
    outputs, tail = (text.replace(*swap) if swap[0] else text for text in OUTPUTS[kind])
    file = how(insert_mask(model_of(outputs, tail), head, MASK, said))
    onnx.save(file, folder / "file.onnx")
    return verify(folder / "file.onnx", source, "cpu")


@pytest.mark.parametrize("how", [renamed_layer, quantised])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_same_answers_are_in_force(kind, how, tmp_path):
    result = judged(tmp_path, kind, how)
    assert result.transformed is not None, result.remarks


@pytest.mark.parametrize("how", [renamed_layer, quantised])
@pytest.mark.parametrize(
    ("kind", "swap"), [(kind, swap) for kind, swaps in TAMPERED.items() for swap in swaps]
)
def test_other_answers_of_the_same_scores_are_not(kind, swap, how, tmp_path):
    result = judged(tmp_path, kind, how, swap)
    assert result.faults
    assert result.transformed is None
    (remark,) = result.remarks
    # What scales classes apart counts to the logits.
    assert ("output" in remark or "its logits" in remark) and "\n" not in remark


def test_outputs_that_are_left_out(tmp_path):
    """A runtime that needs no probabilities cuts them off."""
    swap = (f"int64[N] label, float[N, {CLASSES}] p", f"float[N, {CLASSES}] p")
    assert judged(tmp_path, "label first", renamed_layer, swap).transformed is not None


def test_what_is_infinite_in_both_does_not_differ():
    first = np.array([[0.0, 1.0, -np.inf], [2.0, np.nan, 5.0]])
    assert apart(first, first) == 0
    second = first + np.array([[0, 0, 0], [0.1, 0, 0]])
    assert 0 < apart(second, first) < 0.1
    assert not apart(np.where(np.isnan(first), 0, first), first) < np.inf
