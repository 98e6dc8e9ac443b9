"""What became of a hardened file: its mask is found, in force, and nothing else passes for it.

Every transformation here is done by hand or by ONNX Runtime itself; those of other tools are in
``tests/compat``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array, to_array

from cloakify.cli.main import run
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import insert_mask, mask_digest
from cloakify.onnxfile import open_model
from cloakify.workflows.verify import Verification, verify
from tests.support.hardening import made_from

INPUTS, FEATURES, CLASSES = 6, 12, 4
MASK = (np.arange(FEATURES) % 3 != 0).astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"net (float[N, {INPUTS}] x) => (float[N, {CLASSES}] y) "
        "{ a = Gemm (x, v, c)  f = Relu (a)  z = MatMul (f, w)  s = Add (z, b)  y = Softmax (s) }"
    )
    rng = np.random.default_rng(0)
    shapes = {"v": (INPUTS, FEATURES), "c": (FEATURES,), "w": (FEATURES, CLASSES), "b": (CLASSES,)}
    for name, shape in shapes.items():
        model.graph.initializer.append(from_array(rng.normal(size=shape).astype(np.float32), name))
    path = tmp_path_factory.mktemp("transformed") / "source.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def hardened(source: Path) -> onnx.ModelProto:
    file = open_model(source)
    head = find_head(file.model).head
    facts = {
        "mask_sha256": mask_digest(MASK),
        "mask_removed": str(int((MASK == 0).sum())),
        "mask_total": str(FEATURES),
    }
    return insert_mask(file.model, head, MASK, made_from(file, head, **facts))


def weights(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def change(model: onnx.ModelProto, name: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = weights(model, name)
    tensor.CopyFrom(from_array(how(to_array(tensor)), name))


def optimised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def folded(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The product with the mask becomes one with the weights."""
    change(model, "w", lambda w: w * MASK[:, None])
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Mul")
    masked = model.graph.node[place].output[0]
    del model.graph.node[place]
    for node in model.graph.node:
        node.input[:] = ["f" if name == masked else name for name in node.input]
    model.graph.initializer.remove(weights(model, "cloakify_mask"))
    return model


def halved(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        change(model, tensor.name, lambda values: values.astype(np.float16))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model


def quantised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Weights and mask of 8 bits behind DequantizeLinear, as QDQ files have them."""
    for name in ("v", "w", "cloakify_mask"):
        values = to_array(weights(model, name))
        scale = np.float32(np.abs(values).max() / 127)
        change(model, name, lambda values, scale=scale: np.rint(values / scale).astype(np.int8))
        model.graph.initializer.append(from_array(scale, f"{name}_scale"))
        node = onnx.helper.make_node("DequantizeLinear", [name, f"{name}_scale"], [f"{name}_real"])
        for other in model.graph.node:
            other.input[:] = [f"{name}_real" if each == name else each for each in other.input]
        model.graph.node.insert(0, node)
    return model


def renamed(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Nothing of ours is called as we call it any more, and the metadata are lost."""
    names = {"cloakify_mask": "m", "cloakify_masked_features": "g"}
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    weights(model, "cloakify_mask").name = "m"
    del model.metadata_props[:]
    return model


def reordered(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Only put into another order and described, as onnxslim leaves what it finds optimal."""
    tensors = list(model.graph.initializer)[::-1]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    model.producer_name = "tool"
    return onnx.shape_inference.infer_shapes(model)


CASES = {
    reordered: ("by Mul", "floats of 32 bits"),
    optimised: ("by Mul", "floats of 32 bits"),
    folded: ("within the weights of 'z'", "floats of 32 bits"),
    halved: ("by Mul", "floats of 16 bits"),
    quantised: ("by Mul", "quantised numbers"),
    renamed: ("by Mul 'g'", "floats of 32 bits"),
}


def verified(model: onnx.ModelProto, source: Path, folder: Path) -> Verification:
    onnx.save(model, folder / "file.onnx")
    return verify(folder / "file.onnx", source, "cpu")


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


@pytest.mark.parametrize("how", CASES, ids=lambda how: how.__name__)
def test_the_mask_is_found_in_force(how, source, hardened, tmp_path, capsys):
    model = how(copy_of(hardened), tmp_path)
    result = verified(model, source, tmp_path)
    assert result.faults
    found = result.transformed
    assert found is not None, result.remarks
    where, arithmetic = CASES[how]
    assert where in found.where
    assert (found.removed, found.total) == (int((MASK == 0).sum()), FEATURES)
    assert found.arithmetic == arithmetic
    assert found.named == (how is not renamed)
    assert found.difference <= found.tolerance < found.without_mask
    # The command says so in its own words and by its own code, and never that it is proven.
    assert run(["verify", str(tmp_path / "file.onnx"), "--against", str(source)]) == 6
    told = capsys.readouterr().out
    assert "transformed after hardening, mask in force" in told
    assert "and nothing else" not in told
    run(["verify", str(tmp_path / "file.onnx"), "--against", str(source), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["verified"] is False
    assert document["transformed"]["removed"] == found.removed


@pytest.mark.parametrize("how", CASES, ids=lambda how: how.__name__)
def test_differences_are_those_of_numpy(how, source, hardened, tmp_path):
    model = how(copy_of(hardened), tmp_path)
    found = verified(model, source, tmp_path).transformed
    values = {tensor.name: to_array(tensor) for tensor in onnx.load(source).graph.initializer}
    x = np.random.default_rng(0).random((64, INPUTS)).astype(np.float32)
    features = np.maximum(x @ values["v"] + values["c"], 0)
    masked, plain = ((features * m) @ values["w"] + values["b"] for m in (MASK, np.ones(FEATURES)))
    spread = np.sqrt(np.square(masked - masked.mean(axis=1, keepdims=True)).mean())
    apart = np.sqrt(np.square(masked - plain).mean()) / spread
    assert found.without_mask == pytest.approx(apart, rel=0.05)


def without_mask(model: onnx.ModelProto) -> None:
    """The product is still there, by ones."""
    change(model, "cloakify_mask", np.ones_like)


def another_mask(model: onnx.ModelProto) -> None:
    change(model, "cloakify_mask", lambda mask: 1 - mask)


def other_weights(model: onnx.ModelProto) -> None:
    change(model, "w", lambda w: w[:, ::-1].copy())


def left_out(model: onnx.ModelProto) -> None:
    """The mask's product is computed, and its result used by nobody."""
    for node in model.graph.node:
        if node.op_type == "MatMul":
            node.input[0] = "f"
    value = onnx.helper.make_tensor_value_info("cloakify_masked_features", 1, ["N", FEATURES])
    model.graph.output.append(value)


@pytest.mark.parametrize("how", [without_mask, another_mask, other_weights, left_out])
@pytest.mark.parametrize("also", [None, halved, quantised])
def test_nothing_else_passes_for_it(how, also, source, hardened, tmp_path):
    model = copy_of(hardened)
    how(model)
    if also is not None and how is not left_out:
        model = also(model, tmp_path)
    result = verified(model, source, tmp_path)
    assert result.faults
    if how is another_mask and also is not None:
        # A mask, but another than the metadata speak of.
        assert result.transformed is not None
        assert not result.transformed.named
    else:
        assert result.transformed is None


def off_by_a_little(model: onnx.ModelProto) -> onnx.ModelProto:
    """Its weights are off by what rounding to 8 bits may do, and hold the mask."""
    rng = np.random.default_rng(0)
    change(model, "w", lambda w: w * (1 + 0.03 * rng.standard_normal(w.shape, np.float32)))
    return model


def half_unused(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(from_array(np.ones(1, np.float16), "idle"))


def eighth_unused(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(from_array(np.ones(1, np.int8), "idle"))
    model.graph.initializer.append(from_array(np.float32(1), "idle_scale"))
    node = onnx.helper.make_node("DequantizeLinear", ["idle", "idle_scale"], ["unused"])
    model.graph.node.insert(0, node)


@pytest.mark.parametrize("idle", [half_unused, eighth_unused])
def test_what_is_not_used_allows_no_rounding(idle, source, hardened, tmp_path):
    model = off_by_a_little(folded(copy_of(hardened), tmp_path))
    idle(model)
    result = verified(model, source, tmp_path)
    assert result.transformed is None
    assert "(floats of 32 bits) are off by" in result.remarks[0]


# Beside the layers, and in use: a cast there and back, a quantised number, and a quantised layer
# of the head's own sizes and name, of which nothing comes to the answer.
ASIDE = {
    "cast": "o = Cast <to = 10> (f)  p = Cast <to = 1> (o)",
    "rounded": "o = QuantizeLinear (f, step)  p = DequantizeLinear (o, step)",
    "layer": "w8 = DequantizeLinear (w9, step)  o = MatMul (f, w8)  t0 = Mul (o, none)  "
    "t1 = ReduceSum <keepdims = 1> (t0)  p = Add (f, t1)",
}


@pytest.mark.parametrize("form", [folded, None])
@pytest.mark.parametrize("aside", ASIDE)
def test_what_rounds_no_layer_allows_no_rounding(aside, form, source, hardened, tmp_path):
    model = copy_of(hardened) if form is None else form(copy_of(hardened), tmp_path)
    model = off_by_a_little(model)
    added = onnx.parser.parse_graph(
        f"g (float[N, {FEATURES}] f) => (float[N, {FEATURES}] q) "
        f"<float step = {{0.05}}, float none = {{0.0}}> "
        f"{{ {ASIDE[aside]}  s1 = Mul (p, none)  q = Add (f, s1) }}"
    )
    head = next(i for i, node in enumerate(model.graph.node) if "f" in node.input)
    for place, node in enumerate(model.graph.node):
        if place >= head:
            node.input[:] = ["q" if name == "f" else name for name in node.input]
    for node in reversed(added.node):
        model.graph.node.insert(head, node)
    model.graph.initializer.extend(added.initializer)
    eight = np.ones((FEATURES, CLASSES), np.int8)
    if aside == "layer":
        model.graph.initializer.append(from_array(eight, "w9"))
    result = verified(model, source, tmp_path)
    assert result.faults and result.transformed is None
    assert "(floats of 32 bits) are off by" in result.remarks[0]


def test_a_mask_that_is_folded_in_part(source, hardened, tmp_path):
    model = folded(copy_of(hardened), tmp_path)
    own = to_array(weights(onnx.load(source), "w"))
    # Of four masked features two have their weights again.
    change(model, "w", lambda w: np.where(np.arange(FEATURES)[:, None] < 6, own, w))
    result = verified(model, source, tmp_path)
    assert result.transformed is None
    assert "speak of 4 masked features, and the mask found within" in result.remarks[0]
    assert result.remarks[0].endswith("is of 2")


@pytest.mark.parametrize("level", [0, 1])
def test_a_mask_that_is_left_out_at_black_or_white(level, source, hardened, tmp_path):
    """As pictures have them, and noise has not."""
    model = copy_of(hardened)
    reduce = "ReduceMax" if level else "ReduceMin"
    added = onnx.parser.parse_graph(
        f"g (float[N, {INPUTS}] x, float[N, {FEATURES}] f, float[N, {FEATURES}] m) "
        f"=> (float[N, {FEATURES}] kept) <float level = {{{level}.0}}> "
        f"{{ e = {reduce} <axes = [1]> (x)  h = Equal (e, level)  kept = Where (h, f, m) }}"
    )
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "MatMul")
    masked = model.graph.node[place].input[0]
    model.graph.node[place].input[0] = "kept"
    for node in reversed(added.node):
        node.input[:] = [masked if name == "m" else name for name in node.input]
        model.graph.node.insert(place, node)
    model.graph.initializer.extend(added.initializer)
    assert verified(model, source, tmp_path).transformed is None


def of_batches(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    model = copy_of(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    return model


@pytest.mark.parametrize(("before", "after"), [(1, 1), (3, 3), (0, 1), (1, 0), (100, 100)])
def test_models_of_fixed_batches_are_compared_on_as_many_samples(
    before, after, source, hardened, tmp_path
):
    """Where each takes a fixed number, or a tool has fixed or opened it."""
    first = onnx.load(source)
    onnx.save(of_batches(first, before) if before else first, tmp_path / "source.onnx")
    model = folded(copy_of(hardened), tmp_path)
    model = of_batches(model, after) if after else model
    found = verified(model, tmp_path / "source.onnx", tmp_path).transformed
    assert found is not None
    assert found.samples == {3: 66, 100: 100}.get(before, 64)
    # A single sample of noise has the mask's answer here; a darker one has not.
    added = onnx.parser.parse_graph(
        f"g (float[N, {INPUTS}] x, float[N, {FEATURES}] f) => (float[N, {FEATURES}] kept) "
        "<float level = {0.0}> { e = ReduceMin <axes = [1]> (x)  h = Equal (e, level)  "
        "d = Add (f, f)  kept = Where (h, d, f) }"
    )
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "MatMul")
    model.graph.node[place].input[0] = "kept"
    for node in reversed(added.node):
        model.graph.node.insert(place, node)
    model.graph.initializer.extend(added.initializer)
    assert verified(model, tmp_path / "source.onnx", tmp_path).transformed is None


def test_the_source_is_no_hardened_file(source, tmp_path):
    model = onnx.load(source)
    # Or it would be the same file, which is all that there is to be said.
    model.doc_string = "saved anew"
    result = verified(model, source, tmp_path)
    assert result.transformed is None
    assert "nor do the weights of 'z'" in result.remarks[0]


@pytest.mark.parametrize("read", [True, False])
def test_a_file_of_other_inputs(source, hardened, tmp_path, read):
    """One more than the source has, whoever reads it."""
    model = copy_of(hardened)
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", 1, ["N", FEATURES]))
    if read:
        added = onnx.helper.make_node("Add", ["cloakify_masked_features", "more"], ["sum"], "sum")
        place = next(i for i, node in enumerate(model.graph.node) if "z" in node.output)
        model.graph.node[place].input[0] = "sum"
        model.graph.node.insert(place, added)
    result = verified(model, source, tmp_path)
    assert result.faults and result.transformed is None


def test_a_proven_file_is_not_called_transformed(source, hardened, tmp_path, capsys):
    result = verified(copy_of(hardened), source, tmp_path)
    assert (result.faults, result.transformed) == ((), None)
    assert run(["verify", str(tmp_path / "file.onnx"), "--against", str(source)]) == 0


def test_several_layers_that_became_one(tmp_path):
    """As onnxsim merges products of the same features: what was put side by side is cut then."""
    rows, rng = 3, np.random.default_rng(0)
    layers = "  ".join(f"z{k} = MatMul (f, w{k})  p{k} = Sigmoid (z{k})" for k in range(rows))
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"net (float[N, {INPUTS}] x) => (float[N, {rows}] y) "
        "{{ a = Gemm (x, v)  f = Relu (a)  {layers}  q = Concat <axis = 1> (p0, p1, p2)  "
        "y = LpNormalization <axis = 1, p = 1> (q) }}"
    )
    source = onnx.parser.parse_model(text.format(layers=layers))
    first = rng.normal(size=(INPUTS, FEATURES)).astype(np.float32)
    parts = [rng.normal(size=(FEATURES, 1)).astype(np.float32) for _ in range(rows)]
    source.graph.initializer.append(from_array(first, "v"))
    source.graph.initializer.extend(from_array(w, f"w{k}") for k, w in enumerate(parts))
    onnx.save(source, tmp_path / "source.onnx")
    cut = "  ".join(f"p{k} = Sigmoid (z{k})" for k in range(rows))
    merged = onnx.parser.parse_model(
        text.format(
            layers="g = Mul (f, m)  z = MatMul (g, w)  "
            f"z0, z1, z2 = Split <axis = 1> (z, sizes)  {cut}"
        )
    )
    for name, values in {"v": first, "m": MASK, "w": np.concatenate(parts, axis=1)}.items():
        merged.graph.initializer.append(from_array(values, name))
    merged.graph.initializer.append(from_array(np.ones(rows, np.int64), "sizes"))
    result = verified(merged, tmp_path / "source.onnx", tmp_path)
    assert result.transformed is not None, result.remarks
    assert result.transformed.removed == int((MASK == 0).sum())
    change(merged, "w", lambda w: w[:, ::-1].copy())
    assert verified(merged, tmp_path / "source.onnx", tmp_path).transformed is None
