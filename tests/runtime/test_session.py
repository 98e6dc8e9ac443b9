"""Sessions run where they were told to, and fail in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto

from cloakify.errors import DeviceError, ModelError, OutOfMemoryError
from cloakify.runtime import Device, Session, session, weights_beside

CPU = Device("cpu")
SCALE = """
<ir_version: 8, opset_import: ["" : 17]>
f (float[N, 3] x) => (float[N, 3] y, float[N, 3] z) <float[3] w = {1, 2, 3}>
{ y = Mul (x, w)  z = Neg (y) }
"""
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def model() -> ModelProto:
    return onnx.parser.parse_model(SCALE)


def test_outputs_come_by_name(model):
    opened = Session(model, CPU, threads=1)
    assert (opened.inputs, opened.outputs) == (("x",), ("y", "z"))
    found = opened.run({"x": X})
    np.testing.assert_array_equal(found["y"], X * [1, 2, 3])
    np.testing.assert_array_equal(found["z"], -found["y"])
    assert list(opened.run({"x": X}, ["z"])) == ["z"]


def test_what_one_run_returns_feeds_the_next(model):
    opened = Session(model, CPU)
    once = opened.run_on_device({"x": X}, ["y"])
    twice = opened.run({"x": once["y"]}, ["y"])
    np.testing.assert_array_equal(twice["y"], X * [1, 4, 9])


def test_arrays_need_not_be_contiguous(model):
    turned = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3))[::2]
    found = Session(model, CPU).run({"x": turned})
    np.testing.assert_array_equal(found["y"], turned * [1, 2, 3])


@pytest.mark.parametrize(
    ("feeds", "outputs"),
    [
        ({"q": X}, None),
        ({}, None),
        ({"x": X}, ["q"]),
        ({"x": X[:, :2]}, None),
        ({"x": X.astype(np.float64)}, None),
        ({"x": np.array([["a"]], object)}, None),
    ],
    ids=["unknown input", "no input", "unknown output", "shape", "dtype", "strings"],
)
def test_a_failing_run_is_one_line(model, feeds, outputs, capfd):
    with pytest.raises(ModelError, match=r"^ONNX Runtime failed while running the model") as caught:
        Session(model, CPU).run(feeds, outputs)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_bad_model_is_one_line(model, tmp_path, capfd):
    model.graph.node[0].op_type = "Unknown"
    (tmp_path / "garbage.onnx").write_bytes(b"garbage")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for bad in (model, tmp_path / "garbage.onnx", str(tmp_path / "empty.onnx"), tmp_path / "none"):
        with pytest.raises(ModelError, match=r"^ONNX Runtime refuses the model") as caught:
            Session(bad, CPU)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_session_elsewhere_than_asked_for_is_an_error(model, monkeypatch):
    opened = ort.InferenceSession

    def on_the_cpu(source: bytes, options: object, **_: object) -> ort.InferenceSession:
        return opened(source, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "InferenceSession", on_the_cpu)
    with pytest.raises(DeviceError, match="gave CPUExecutionProvider, not cuda:0"):
        Session(model, Device("cuda"))


@pytest.mark.parametrize("text", ["CUDA failure 35: driver too old", "std::bad_alloc"])
def test_a_device_that_fails_to_open_prints_nothing_and_is_named(model, monkeypatch, capfd, text):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(ort.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(DeviceError, match=rf"^cuda:1: .*{text}"):
        Session(model, Device("cuda", 1))
    assert capfd.readouterr() == ("", "")


def test_too_little_memory_is_said(model, monkeypatch):
    opened = Session(model, CPU)

    class Full:
        def io_binding(self) -> object:
            return self

        def bind_ortvalue_input(self, *_: object) -> None:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 1")

    monkeypatch.setattr(opened, "_session", Full())
    with pytest.raises(DeviceError, match="memory does not suffice"):
        opened.run({"x": X})


@pytest.mark.parametrize(
    "text",
    [
        "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9",
        "Available memory of 64 is smaller than requested bytes of 128",
        "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&handle);",
        "CUDNN failure 4003: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    ],
)
def test_whatever_says_that_memory_does_not_suffice_is_heard(model, monkeypatch, text) -> None:
    opened = Session(model, CPU)

    class Full:
        def io_binding(self) -> object:
            return self

        def bind_ortvalue_input(self, *_: object) -> None:
            raise RuntimeError(text)

    monkeypatch.setattr(opened, "_session", Full())
    with pytest.raises(OutOfMemoryError, match="memory does not suffice"):
        opened.run({"x": X})


def large() -> ModelProto:
    """Weights of several types, large and small, one of them shared by a node's attribute."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 40] x) => (float[N, 60] y) <float[60] b = {0}, int64[2] shape = {-1, 60}>
        {
            w = Cast <to: int = 1> (half)
            h = MatMul (x, w)
            h2 = Reshape (h, shape)
            y = Add (h2, bias)
        }
    """)
    del model.graph.initializer[0]
    rng = np.random.default_rng(0)
    for name, values in (
        ("half", rng.standard_normal((40, 60)).astype(np.float16)),
        ("bias", rng.standard_normal(60).astype(np.float32)),
    ):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def test_a_model_over_the_message_limit_gives_the_same_and_is_not_changed(monkeypatch):
    model = large()
    x = np.random.default_rng(1).standard_normal((3, 40)).astype(np.float32)
    expected = Session(model, CPU).run({"x": x})["y"]
    before = model.SerializeToString(deterministic=True)
    monkeypatch.setattr(weights_beside, "MOST_WITHIN", 100)
    opened = Session(model, CPU)
    assert list(opened._weights) == ["half"]
    assert model.SerializeToString(deterministic=True) == before
    del model
    np.testing.assert_array_equal(opened.run({"x": x})["y"], expected)


def test_a_file_is_opened_with_its_sidecar(tmp_path: Path):
    model = large()
    x = np.ones((2, 40), np.float32)
    expected = Session(model, CPU).run({"x": x})["y"]
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights")
    assert (tmp_path / "weights").is_file()
    np.testing.assert_array_equal(Session(path, CPU).run({"x": x})["y"], expected)


def test_two_threads_give_what_one_gives(model):
    one = Session(model, CPU, threads=1).run({"x": X})
    two = Session(model, CPU, threads=2).run({"x": X})
    np.testing.assert_array_equal(one["z"], two["z"])


@pytest.mark.parametrize("most", [1, 2])
def test_graphs_of_very_many_nodes_are_opened_as_they_are_written(model, monkeypatch, most):
    monkeypatch.setattr(session, "MOST_REWRITTEN", most)
    opened = Session(model, CPU)
    level = opened._session.get_session_options().graph_optimization_level
    as_written = level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert as_written == (len(model.graph.node) > most)
    np.testing.assert_array_equal(opened.run({"x": X})["y"], X * [1, 2, 3])


SIGNS = [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")]


@pytest.mark.parametrize(("features", "weights"), SIGNS)
@pytest.mark.parametrize("quantised", [False, True])
def test_products_of_small_numbers_are_exact(features, weights, quantised):
    """As far as they go, on every processor: those without VNNI cut sums off of themselves."""
    bounds = [np.iinfo(name) for name in (features, weights)]
    x = np.full((2, 64), bounds[0].max, features)
    w = np.full((64, 3), bounds[1].max - 1, weights)
    sums = x.astype(np.int64) @ w.astype(np.int64)
    node = "QLinearMatMul (x, one, xo, w, one, wo, s, xo)" if quantised else "MatMulInteger (x, w)"
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> f ({features}[N, 64] x) =>
        ({features if quantised else "int32"}[N, 3] y)
        <float one = {{1}}, float s = {{32767}}, {features} xo = {{0}}, {weights} wo = {{0}}>
        {{ y = {node} }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    found = Session(model, CPU).run({"x": x})["y"]
    np.testing.assert_array_equal(found, np.rint(sums / 32767) if quantised else sums)


@pytest.mark.parametrize("put_out", ["h", "y"])
def test_products_with_packed_weights_are_those_of_floats(put_out):
    """Whatever else is in the graph: some of it keeps the runtime from fusing them."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21]> f (float[N, 64] x) => (float[N, 16] {put_out})
        {{ w = DequantizeLinear <axis = 0, block_size = 32> (packed, scale)
        p = MatMul (x, w)  h = Relu (p)  y = Tanh (h) }}"""
    )
    values = rng.integers(-8, 8, (64, 16))
    packed = onnx.helper.make_tensor("packed", onnx.TensorProto.INT4, (64, 16), values.reshape(-1))
    scale = onnx.numpy_helper.from_array(np.full((2, 16), 0.05, np.float32), "scale")
    model.graph.initializer.extend([packed, scale])
    x = rng.random((8, 64), np.float32)
    expected = np.maximum(x @ (values * np.float32(0.05)).astype(np.float32), 0)
    expected = np.tanh(expected) if put_out == "y" else expected
    found = Session(model, CPU).run({"x": x})[put_out]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("float", np.float32), ("double", np.float64), ("float16", np.float16)]
)
def test_floats_are_taken_in_the_inputs_type_and_nothing_else_is_moved(
    kind: str, dtype: type
) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({kind}[2] x, int64[2] i) => ({kind}[2] y, '
        "int64[2] j) { y = Identity (x)  j = Identity (i) }"
    )
    session = Session(model, CPU)
    taken = session.as_taken("x", np.array([0.5, 2], np.float16))
    assert taken.dtype == dtype and taken.tolist() == [0.5, 2]
    whole = np.arange(2)
    assert session.as_taken("i", whole) is whole and session.as_taken("x", whole) is whole
    flags = np.ones(2, np.bool_)
    assert session.as_taken("x", flags) is flags
