"""What became of a tuned file: its gates are found, in force, and nothing else passes for them.

The source is put together here, its gated copies by NumPy where figures are compared; it is
transformed by ONNX Runtime itself and by hand. Other tools are in ``tests/compat``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array, to_array

from cloakify.cli.main import run
from cloakify.hardening.layers_read import read_layers
from cloakify.runtime.simplified import simplified
from cloakify.workflows.verify import Verification, verify
from tests.support.tuned_files import FORMS, tuned

CLASSES = 5
LEVELS = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def values_of_rank(*shape: int, spread: float = 1.0) -> np.ndarray:
    drawn = np.random.default_rng(sum(shape)).normal(size=shape) * spread / np.sqrt(shape[-1])
    return drawn.astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with every kind of layer that gates stand behind; 16 channels make a block."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"net (float[N, 3, 6, 6] x) => (float[N, {CLASSES}] y) "
        "{ a = Conv <pads = [1, 1, 1, 1]> (x, k1, c1)  n = BatchNormalization (a, s, t, m, v)  "
        "r = Relu (n)  d = Conv <pads = [1, 1, 1, 1]> (r, k2)  e = Relu (d)  "
        "g = GlobalAveragePool (e)  f = Flatten (g)  h = MatMul (f, w1)  j = Add (h, b1)  "
        "q = LayerNormalization <axis = -1> (j, ls, lt)  i = Relu (q)  y = Gemm (i, w2, b2) }"
    )
    arrays = {
        "k1": values_of_rank(16, 3, 3, 3), "c1": values_of_rank(16),
        "k2": values_of_rank(16, 16, 3, 3),
        "s": 1 + values_of_rank(16), "t": values_of_rank(16), "m": values_of_rank(16),
        "v": np.float32(1 + np.arange(16) / 16), "w1": values_of_rank(16, 12, spread=3),
        "b1": values_of_rank(12), "ls": 1 + values_of_rank(12), "lt": values_of_rank(12),
        "w2": values_of_rank(12, CLASSES, spread=3), "b2": values_of_rank(CLASSES),
    }  # fmt: skip
    model.graph.initializer.extend(from_array(array, name) for name, array in arrays.items())
    path = tmp_path_factory.mktemp("gates") / "source.onnx"
    onnx.save(model, path)
    return path


def optimised(model: onnx.ModelProto, folder: Path, level: str) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        tensor.CopyFrom(from_array(to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model


def quantised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    quantization = pytest.importorskip("onnxruntime.quantization")
    onnx.save(model, folder / "whole.onnx")
    quantization.quantize_dynamic(folder / "whole.onnx", folder / "small.onnx")
    return onnx.load(folder / "small.onnx")


def verified(model: onnx.ModelProto, source: Path, folder: Path) -> Verification:
    onnx.save(model, folder / "file.onnx")
    return verify(folder / "file.onnx", source, "cpu")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("level", LEVELS)
def test_what_the_runtime_s_optimiser_makes_of_them(form, level, source, tmp_path, capsys):
    result = verified(optimised(tuned(source, form), tmp_path, level), source, tmp_path)
    assert result.faults
    found = result.transformed
    assert found is not None, (result.faults, result.remarks)
    assert (found.kind, found.named, found.arithmetic) == ("gates", True, "floats of 32 bits")
    assert found.difference <= 1e-4 < 0.1 < found.without_mask
    assert run(["verify", str(tmp_path / "file.onnx"), "--against", str(source)]) == 6
    told = capsys.readouterr().out
    assert "transformed after hardening, gates in force" in told
    assert "and nothing else" not in told
    run(["verify", str(tmp_path / "file.onnx"), "--against", str(source), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["verified"], document["transformed"]["kind"]) == (False, "gates")


@pytest.mark.parametrize("form", FORMS)
def test_in_sixteen_and_in_eight_bits(form, source, tmp_path):
    half = verified(halved(tuned(source, form)), source, tmp_path).transformed
    assert half is not None and half.arithmetic == "floats of 16 bits"
    assert half.difference < 0.01
    eight = verified(quantised(tuned(source, form), tmp_path), source, tmp_path).transformed
    assert eight is not None and eight.arithmetic == "quantised numbers"


@pytest.mark.parametrize("level", [None, *LEVELS])
@pytest.mark.parametrize("form", FORMS)
def test_quantised_beforehand_and_optimised(form, level, source, tmp_path):
    """On the way to kernels of its own the runtime puts channels last, with what is behind them."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    onnx.save(tuned(source, form), tmp_path / "whole.onnx")
    samples = [{"x": each} for each in np.random.default_rng(0).random((8, 8, 3, 6, 6), np.float32)]

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return samples.pop() if samples else None

    quantization.quantize_static(
        tmp_path / "whole.onnx", tmp_path / "small.onnx", Reader(), per_channel=True
    )
    model = onnx.load(tmp_path / "small.onnx")
    if level is not None:
        model = optimised(model, tmp_path, level)
    if (form, level) == ("mul", LEVELS[-1]):
        last = [at for node in model.graph.node for at in node.attribute if "last" in at.name]
        assert any(at.i for at in last)
    result = verified(model, source, tmp_path)
    found = result.transformed
    assert found is not None, result.remarks
    assert found.arithmetic == "quantised numbers"


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, which is told by its weights, and an LSTM, whose gates stay nodes."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"net (float[N, 12, 20] x) => (float[N, {CLASSES}] y) "
        "{ a = Conv <pads = [1, 1]> (x, k, c)  r = Relu (a)  t = Transpose <perm = [2, 0, 1]> (r)  "
        "o, v, l = LSTM <hidden_size = 16> (t, w, u, b)  s = Flatten <axis = 2> (v)  "
        "y = Gemm (s, h, d) }"
    )
    arrays = {
        "k": values_of_rank(16, 12, 3), "c": values_of_rank(16), "w": values_of_rank(1, 64, 16),
        "u": values_of_rank(1, 64, 16), "b": values_of_rank(1, 128),
        "h": values_of_rank(16, CLASSES, spread=3), "d": values_of_rank(CLASSES),
    }  # fmt: skip
    model.graph.initializer.extend(from_array(array, name) for name, array in arrays.items())
    path = tmp_path_factory.mktemp("gates") / "recurrent.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("level", LEVELS)
def test_behind_a_layer_that_its_weights_do_not_tell(level, recurrent, tmp_path):
    found = verified(
        optimised(tuned(recurrent, "mul"), tmp_path, level), recurrent, tmp_path
    ).transformed
    assert found is not None
    assert (found.kind, found.named, found.total) == ("gates", True, 32)
    assert found.difference <= 1e-4 < 0.1 < found.without_mask


@pytest.mark.parametrize("undone", ["cloakify_gate_2", "cloakify_shift_3"])
def test_behind_such_a_layer_other_values_are_others(undone, recurrent, tmp_path):
    model = optimised(tuned(recurrent, "mul"), tmp_path, "ORT_ENABLE_BASIC")
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == undone)
    tensor.CopyFrom(from_array(to_array(tensor) * np.float32(2), undone))
    found = verified(model, recurrent, tmp_path).transformed
    # They are in force, and are not those that the metadata name.
    assert found is not None and not found.named


def test_without_metadata_they_are_found_and_not_named(source, tmp_path):
    model = optimised(tuned(source, "mul"), tmp_path, "ORT_ENABLE_BASIC")
    del model.metadata_props[:]
    found = verified(model, source, tmp_path).transformed
    assert found is not None
    assert (found.kind, found.named) == ("gates", False)


@pytest.mark.parametrize("level", [*LEVELS, None])
@pytest.mark.parametrize("says_so", [True, False])
def test_the_source_itself_has_none(level, says_so, source, tmp_path):
    model = onnx.load(source)
    model = model if level is None else optimised(model, tmp_path, level)
    if says_so:
        model.metadata_props.extend(tuned(source, "mul").metadata_props)
    result = verified(model, source, tmp_path)
    assert result.faults
    assert result.transformed is None
    assert level is None or "no gates are found" in " ".join(result.remarks)


def test_other_gates_are_not_those_that_are_named(source, tmp_path):
    model = optimised(tuned(source, "fold", seed=1), tmp_path, "ORT_ENABLE_BASIC")
    del model.metadata_props[:]
    model.metadata_props.extend(tuned(source, "fold").metadata_props)
    found = verified(model, source, tmp_path).transformed
    assert found is not None
    assert not found.named


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("aside", ["halved", "rounded"])
@pytest.mark.parametrize("moved", ["weight", "value"])
def test_what_rounds_no_layer_allows_no_rounding(form, aside, moved, source, tmp_path):
    """A cast there and back of what is nothing, beside other weights, or another way around."""
    model = tuned(source, form)
    noise = 1 + 0.03 * values_of_rank(16, 12, spread=4)
    if moved == "weight":
        (tensor,) = (each for each in model.graph.initializer if each.name == "w1")
        tensor.CopyFrom(from_array(to_array(tensor) * noise, "w1"))
    there, back = {
        "halved": ("o = Cast <to = 10> (f)", "p = Cast <to = 1> (o)"),
        "rounded": ("o = QuantizeLinear (f, step)", "p = DequantizeLinear (o, step)"),
    }[aside]
    size = 0.02 if moved == "value" else 0
    added = onnx.parser.parse_graph(
        f"g (float[N, 16] f) => (float[N, 16] fq) <float step = {{0.05}}, float size = {{{size}}}> "
        f"{{ {there}  {back}  c3 = Cos (p)  m1 = Mul (c3, size)  fq = Add (f, m1) }}"
    )
    place = next(i for i, node in enumerate(model.graph.node) if "f" in node.input)
    for node in model.graph.node:
        node.input[:] = ["fq" if name == "f" else name for name in node.input]
    for node in reversed(added.node):
        model.graph.node.insert(place, node)
    model.graph.initializer.extend(added.initializer)
    result = verified(model, source, tmp_path)
    assert result.faults and result.transformed is None
    assert (
        "are off by" in result.remarks[0] or "no layer in it has the weights" in (result.remarks[0])
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["k2", "w1", "w2", "b2"])
def test_other_weights_pass_for_no_gates(form, name, source, tmp_path):
    """Those of a layer that gates scale, and those of the head, which they do not."""
    model = tuned(source, form)
    tensor = next(each for each in model.graph.initializer if each.name == name)
    turned = np.ascontiguousarray(to_array(tensor)[::-1]) * np.float32(1.5)
    tensor.CopyFrom(from_array(turned, name))
    for changed in (model, optimised(model, tmp_path, "ORT_ENABLE_BASIC")):
        result = verified(changed, source, tmp_path)
        assert result.faults
        assert result.transformed is None


def test_a_proven_file_is_not_called_transformed(source, tmp_path):
    for form in FORMS:
        result = verified(tuned(source, form), source, tmp_path)
        assert (result.faults, result.transformed) == ((), None)


def test_layers_are_read_as_they_compute(source):
    """Of the whole network, by running parts of it on unit vectors in NumPy's own terms."""
    model = onnx.load(source)
    stored = {
        tensor.name: to_array(tensor).astype(np.float64) for tensor in model.graph.initializer
    }
    plain = {layer.steps[-1].output: layer for layer in read_layers(model)}
    scale = stored["s"] / np.sqrt(stored["v"] + 1e-5)
    # A normalisation is what becomes of the layer before it.
    np.testing.assert_allclose(plain["n"].weights[0], stored["k1"].reshape(16, -1))
    last = plain["n"].steps[-1]
    np.testing.assert_allclose(last.scale[:, 0, 0], scale, rtol=1e-6)
    np.testing.assert_allclose(last.shift[:, 0, 0], stored["t"] - stored["m"] * scale, rtol=1e-5)
    np.testing.assert_allclose(plain["j"].steps[-1].shift, stored["b1"])
    whole = {layer.steps[-1].output: layer for layer in read_layers(simplified(model))}
    fused = stored["k1"].reshape(16, -1) * scale[:, None]
    np.testing.assert_allclose(whole["n"].weights[0], fused, rtol=1e-4, atol=1e-6)
    bias = stored["c1"] * scale + stored["t"] - stored["m"] * scale
    np.testing.assert_allclose(whole["n"].bias, bias, rtol=1e-4, atol=1e-6)


def test_constants_of_other_shapes_are_told_in_one_line(source, tmp_path):
    """A bias for each of two samples, as the standard has it, is none of channels."""
    model = tuned(source, "mul")
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "b2")
    bias.CopyFrom(from_array(np.float32([[0.0], [1.0]]), "b2"))
    result = verified(model, source, tmp_path)
    assert result.transformed is None and result.faults
    # Of a file that is its source's graph still, weights are what there is to say.
    del model.metadata_props[:]
    bias.name = "b3"
    head = next(node for node in model.graph.node if "b2" in node.input)
    head.input[2] = "b3"
    result = verified(model, source, tmp_path)
    assert result.transformed is None
    assert "its layers can't be compared with the source's" in " ".join(result.remarks)
