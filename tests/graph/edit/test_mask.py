"""Putting a mask in changes one edge; taking it out gives the source's bytes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from cloakify.errors import HeadError, ModelError
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import (
    MASK,
    MASK_NODE,
    find_mask,
    insert_mask,
    mask_digest,
    strip_mask,
)
from cloakify.onnxfile import compare_models, read_metadata
from cloakify.runtime import Device, Session

MODELS = Path(__file__).parents[3] / "sample_models"
WEIGHTS = "float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}"
TURNED = "float[3, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}"
X = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
MASKS = st.lists(st.sampled_from([0.0, 1.0, 0.5]), min_size=4, max_size=4)


def model(
    body: str,
    constants: str = WEIGHTS,
    x: str = "float[N, 4] x",
    y: str = "float[N, 3] y",
    ir: int = 8,
) -> ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: {ir}, opset_import: ["" : 17]> f ({x}) => ({y}) <{constants}> {{ {body} }}'
    )


def run(found: ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    return Session(found, Device("cpu"), threads=1).run({"x": x})


FORMS = {
    "Gemm": model("f = Relu (x)  y = Gemm (f, w, b)"),
    "transB": model("f = Relu (x)  [fc] y = Gemm <transB: int = 1> (f, w, b)", TURNED),
    "transA": model("f = Transpose (x)  y = Gemm <transA: int = 1> (f, w, b)"),
    "MatMul+Add": model("f = Relu (x)  m = MatMul (f, w)  l = Add (b, m)  y = Softmax (l)"),
    "weights first": model("f = Transpose (x)  m = MatMul (w, f)  y = Transpose (m)", TURNED),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20, deadline=None)
@given(mask=MASKS, entries=st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5)))
def test_in_and_out_gives_the_same_bytes(form, mask, entries):
    entries.pop("mask.sha256", None)
    source = FORMS[form]
    before = source.SerializeToString(deterministic=True)
    values = np.array(mask)
    hardened = insert_mask(source, find_head(source).head, values, entries)
    assert source.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(hardened, full_check=True)
    np.testing.assert_array_equal(find_mask(hardened).values, values)
    assert read_metadata(hardened) == entries
    assert strip_mask(hardened).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("form", FORMS)
def test_features_are_multiplied_and_nothing_else(form):
    source = FORMS[form]
    mask = np.array([1, 0, 0.5, 1])
    hardened = insert_mask(source, find_head(source).head, mask, {})
    expected = run(source, X * mask.astype(np.float32))["y"]
    np.testing.assert_allclose(run(hardened, X)["y"], expected, rtol=1e-6)
    ones = insert_mask(source, find_head(source).head, np.ones(4), {})
    np.testing.assert_array_equal(run(ones, X)["y"], run(source, X)["y"])
    changes = [(d.path, d.kind) for d in compare_models(source, hardened)]
    assert len(changes) == 3
    assert (f"graph.node[{MASK_NODE}]", "added") in changes
    assert (f"graph.initializer[{MASK}]", "added") in changes
    assert sum(".input[" in path and kind == "changed" for path, kind in changes) == 1


def test_a_pointwise_convolution_is_masked_by_channel():
    constants = "float[3, 4, 1, 1] w = {1,2,3,4,5,6,7,8,9,10,11,12}"
    source = model(
        "c = Conv (x, w)  y = GlobalAveragePool (c)",
        constants,
        "float[N, 4, 2, 3] x",
        "float[N, 3, 1, 1] y",
    )
    mask = np.array([1, 0, 0.5, 1], np.float32)
    hardened = insert_mask(source, find_head(source).head, mask, {})
    x = np.random.default_rng(0).random((2, 4, 2, 3), np.float32)
    expected = run(source, x * mask[:, None, None])["y"]
    np.testing.assert_allclose(run(hardened, x)["y"], expected, rtol=1e-6)
    assert strip_mask(hardened) == source


@pytest.mark.parametrize("name", ["fashion_pooled", "fashion_wide", "fashion_keras"])
def test_the_sample_models_come_back_byte_by_byte(name):
    content = (MODELS / f"{name}.onnx").read_bytes()
    source = ModelProto.FromString(content)
    head = find_head(source).head
    hardened = insert_mask(source, head, np.ones(head.num_features), {"version": "1"})
    assert strip_mask(hardened).SerializeToString(deterministic=True) == (
        source.SerializeToString(deterministic=True)
    )


def test_features_used_elsewhere_stay_as_they_are():
    source = model(
        "f = Relu (x)  y = Gemm (f, w, b)  n = ReduceSum (f)",
        y="float[N, 3] y, float[N, 4] f, float[1, 1] n",
    )
    hardened = insert_mask(source, find_head(source, "y").head, np.zeros(4), {})
    before, after = run(source, X), run(hardened, X)
    np.testing.assert_array_equal(after["f"], before["f"])
    np.testing.assert_array_equal(after["n"], before["n"])
    np.testing.assert_array_equal(after["y"], np.tile([1, 2, 3], (2, 1)))


def test_weights_shared_with_another_layer_are_not_touched():
    source = model("[aux] a = MatMul (x, w)  f = Relu (x)  [fc] m = MatMul (f, w)  y = Add (a, m)")
    hardened = insert_mask(source, find_head(source, "fc").head, np.zeros(4), {})
    np.testing.assert_allclose(run(hardened, X)["y"], X @ np.arange(1, 13).reshape(4, 3), rtol=1e-6)


def test_the_right_one_of_two_nodes_of_one_name_is_masked():
    square = "float[4, 4] v = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}"
    source = model(
        "[fc] h = MatMul (x, v)  f = Relu (h)  [fc] y = MatMul (f, w)", f"{WEIGHTS}, {square}"
    )
    hardened = insert_mask(source, find_head(source).head, np.zeros(4), {})
    assert [node.op_type for node in hardened.graph.node] == ["MatMul", "Relu", "Mul", "MatMul"]
    assert strip_mask(hardened) == source


def test_ir_version_3_lists_the_mask_as_an_input():
    source = model(
        "f = Relu (x)  y = Gemm (f, w, b)", "", ir=3, x="float[N, 4] x, float[4, 3] w, float[3] b"
    )
    source.opset_import[0].version = 8
    for name, shape in (("w", (4, 3)), ("b", (3,))):
        values = np.ones(shape, np.float32)
        source.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    hardened = insert_mask(source, find_head(source).head, np.array([1, 0, 0, 0]), {})
    onnx.checker.check_model(hardened, full_check=True)
    assert [value.name for value in hardened.graph.input] == ["x", "w", "b", MASK]
    np.testing.assert_array_equal(run(hardened, X)["y"], np.tile(1 + X[:, :1], 3))
    assert strip_mask(hardened) == source


@pytest.mark.parametrize(
    ("kind", "code"), [("float16", TensorProto.FLOAT16), ("double", TensorProto.DOUBLE)]
)
def test_the_mask_has_the_weights_type(kind, code):
    source = model(
        "f = Relu (x)  y = MatMul (f, w)",
        "",
        x=f"{kind}[N, 4] x",
        y=f"{kind}[N, 3] y",
    )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(code)
    source.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 3), dtype), "w"))
    hardened = insert_mask(source, find_head(source).head, np.array([0, 1, 1, 0]), {})
    assert hardened.graph.initializer[-1].data_type == code
    onnx.checker.check_model(hardened, full_check=True)
    np.testing.assert_array_equal(
        run(hardened, np.ones((1, 4), dtype))["y"], np.full((1, 3), 2, dtype)
    )


@pytest.mark.parametrize(
    ("weights", "constants"),
    [
        ("w = Cast <to: int = 1> (v)", "double[4, 3] v = {1,2,3,4,5,6,7,8,9,10,11,12}"),
        (
            "w = DequantizeLinear (v, s)",
            "int8[4, 3] v = {1,2,3,4,5,6,7,8,9,10,11,12}, float s = {1}",
        ),
        ("w = Constant <value = float[4, 3] {1,2,3,4,5,6,7,8,9,10,11,12}> ()", "float s = {1}"),
        ("w = ConstantOfShape (s)", "int64[2] s = {4, 3}"),
        ("t = Transpose (v)  w = Identity (t)", "float[3, 4] v = {1,2,3,4,5,6,7,8,9,10,11,12}"),
    ],
)
def test_weights_behind_other_operators_tell_the_masks_type(weights, constants):
    source = model(f"{weights}  f = Relu (x)  y = MatMul (f, w)", constants)
    hardened = insert_mask(source, find_head(source).head, np.ones(4), {})
    assert hardened.graph.initializer[-1].data_type == TensorProto.FLOAT
    np.testing.assert_array_equal(run(hardened, X)["y"], run(source, X)["y"])


def test_whole_number_weights_take_no_mask():
    source = model(
        "y = MatMul (x, w)",
        "int32[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}",
        "int32[N, 4] x",
        "int32[N, 3] y",
    )
    with pytest.raises(HeadError, match="computes in INT32; a mask needs a float type"):
        insert_mask(source, find_head(source).head, np.ones(4), {})


@pytest.mark.parametrize(
    "body",
    [
        "cloakify_mask = Relu (x)  y = Gemm (cloakify_mask, w, b)",
        "cloakify_masked_features = Relu (x)  y = Gemm (cloakify_masked_features, w, b)",
    ],
)
def test_a_name_of_the_users_own_is_not_taken(body):
    """The mask goes by another name, is found by it, and taken out again."""
    source = model(body)
    values = np.array([1, 0, 1, 0.5])
    hardened = insert_mask(source, find_head(source).head, values, {"mask.sha256": "0"})
    onnx.checker.check_model(hardened)
    installed = find_mask(hardened)
    assert installed is not None and installed.name == f"{MASK}_1"
    np.testing.assert_array_equal(installed.values, values.astype(np.float32))
    assert strip_mask(hardened).SerializeToString() == source.SerializeToString()
    assert find_mask(source) is None


def test_a_second_mask_and_one_of_another_length_are_refused():
    source = FORMS["Gemm"]
    head = find_head(source).head
    hardened = insert_mask(source, head, np.ones(4), {})
    with pytest.raises(ModelError, match="--replace-mask"):
        insert_mask(hardened, find_head(hardened).head, np.ones(4), {})
    with pytest.raises(ModelError, match=r"shape \(3,\), the head 4 features"):
        insert_mask(source, head, np.ones(3), {})
    with pytest.raises(ModelError, match="holds no cloakify mask"):
        strip_mask(source)


def remove_node(found: ModelProto) -> None:
    del found.graph.node[1]


def remove_tensor(found: ModelProto) -> None:
    del found.graph.initializer[-1]


def change_operator(found: ModelProto) -> None:
    found.graph.node[1].op_type = "Add"


def rename_output(found: ModelProto) -> None:
    found.graph.node[1].output[0] = "other"


def drop_output(found: ModelProto) -> None:
    del found.graph.node[1].output[:]


def shorten(found: ModelProto) -> None:
    found.graph.initializer[-1].raw_data = b"\x00" * 5


def retype(found: ModelProto) -> None:
    found.graph.initializer[-1].data_type = TensorProto.STRING


def change_domain(found: ModelProto) -> None:
    found.graph.node[1].domain = "local"


def comment(found: ModelProto) -> None:
    found.graph.node[1].doc_string = "changed"


def move_outside(found: ModelProto) -> None:
    found.graph.initializer[-1].data_location = TensorProto.EXTERNAL


def remove_both(found: ModelProto) -> None:
    remove_node(found)
    remove_tensor(found)


@pytest.mark.parametrize(
    "edit",
    [
        remove_node,
        remove_tensor,
        remove_both,
        change_operator,
        rename_output,
        drop_output,
        change_domain,
        comment,
        move_outside,
        shorten,
        retype,
    ],
    ids=lambda edit: edit.__name__,
)
def test_what_was_edited_after_hardening_is_refused(edit):
    source = FORMS["Gemm"]
    hardened = insert_mask(source, find_head(source).head, np.ones(4), {"mask.sha256": "…"})
    edit(hardened)
    for use in (find_mask, strip_mask):
        with pytest.raises(ModelError) as caught:
            use(hardened)
        assert "\n" not in str(caught.value)


def test_the_digest_is_of_the_values_not_of_their_type():
    mask = np.array([0, 1, 1, 0])
    digests = {mask_digest(mask.astype(dtype)) for dtype in (np.float16, np.float32, np.float64)}
    assert len(digests) == 1
    assert mask_digest(mask) != mask_digest(1 - mask)
