"""The models that are mutated: small ones, of every kind that cloakify treats in a way of its own.

In ONNX text, with a word for each weight; and the sample models beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import ModelProto, TensorProto

from tests.support.text_models import TextModel

SAMPLES = Path(__file__).parent.parent.parent / "sample_models"


@dataclass(frozen=True)
class Seed:
    """A model to mutate.

    Attributes
    ----------
    message
        The model.
    arrays
        Samples that it takes, by the name of its input.
    sidecars
        Its external weights, by file name.
    """

    message: ModelProto
    arrays: dict[str, np.ndarray]
    sidecars: dict[str, bytes] = field(default_factory=dict)


CONV = """<ir_version: 8, opset_import: ["" : 17], producer_name: "a maker">
conv (float[N, 1, 8, 8] x) => (float[N, 4] p, int64[N] label)
{
    c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    n = BatchNormalization (c, scale, shift, mean, var)
    r = Relu (n)
    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    s = Shape (m)
    zero = Constant <value_ints: ints = [0]> ()
    first = Gather (s, zero)
    rest = Constant <value_ints: ints = [-1]> ()
    whole = Concat <axis = 0> (first, rest)
    f = Reshape (m, whole)
    logits = Gemm <transB = 1> (f, w, b)
    p = Softmax <axis = 1> (logits)
    label = ArgMax <axis = 1, keepdims = 0> (p)
}"""

QUANTISED = """<ir_version: 8, opset_import: ["" : 17]>
quantised (float[N, 1, 8, 8] x) => (float[N, 4] logits)
{
    q = QuantizeLinear (x, xs, xz)
    d = DequantizeLinear (q, xs, xz)
    wd = DequantizeLinear <axis = 0> (wq, ws, wz)
    c = Conv <kernel_shape = [3, 3]> (d, wd)
    r = Relu (c)
    a = GlobalAveragePool (r)
    f = Flatten (a)
    logits = Gemm <transB = 1> (f, w, b)
}"""

CONTROL = """<ir_version: 8, opset_import: ["" : 17]>
control (float[N, 8] x) => (float[N, 3] logits)
{
    yes = Constant <value = bool {1}> ()
    trips = Constant <value = int64 {3}> ()
    h = If (yes) <
        then_branch = then () => (float[N, 8] t) { t = Tanh (x) },
        else_branch = other () => (float[N, 8] e) { e = Neg (x) }
    >
    g, all = Loop (trips, yes, h) <
        body = step (int64 i, bool go, float[N, 8] state)
            => (bool still, float[N, 8] next, float[N, 8] each)
        { still = Identity (go)  next = Sigmoid (state)  each = Identity (next) }
    >
    summed = ReduceSum <keepdims = 0> (all, ax)
    f = Add (g, summed)
    logits = MatMul (f, w)
}"""

FUNCTIONS = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
functions (float[N, 8] x) => (float[N, 3] logits)
{
    f = own.twice <slope = 2.0> (x)
    m = MatMul (f, w)
    logits = Add (m, b)
}
<opset_import: ["" : 17], domain: "own">
twice <slope> (a) => (c)
{ k = Constant <value_float: float = @slope> ()  b = Mul (a, k)  c = Relu (b) }
"""

TREES = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
scikit (float[N, 8] x) => (int64[N] label, float[N, 3] p)
{
    s = ai.onnx.ml.Scaler <offset = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
        scale = [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]> (x)
    a = MatMul (s, w1)
    r = Relu (a)
    m = MatMul (r, w)
    l = Add (m, b)
    p = Softmax <axis = 1> (l)
    i = ArgMax <axis = 1, keepdims = 0> (p)
    names = Constant <value = int64[3] {0, 1, 2}> ()
    label = ai.onnx.ml.ArrayFeatureExtractor (names, i)
}"""

ATTENTION = """<ir_version: 8, opset_import: ["" : 20]>
attention (float[N, 4, 8] x) => (float[N, 3] logits)
{
    n = LayerNormalization <axis = -1> (x, scale, shift)
    q = MatMul (n, wq)
    k = MatMul (n, wk)
    kt = Transpose <perm = [0, 2, 1]> (k)
    s = MatMul (q, kt)
    p = Softmax <axis = -1> (s)
    v = Einsum <equation = "btd,de->bte"> (n, wv)
    o = MatMul (p, v)
    z = Add (o, x)
    g = Gelu (z)
    t, rest = Split <axis = 1> (g, parts)
    f = Squeeze (t, ax)
    logits = Gemm (f, w, b)
}"""

RECURRENT = """<ir_version: 8, opset_import: ["" : 17]>
recurrent (float[N, 4, 8] x) => (float[N, 3] logits)
{
    t = Transpose <perm = [1, 0, 2]> (x)
    y, h, c = LSTM <hidden_size = 6> (t, lw, lr)
    f = Squeeze (h, ax)
    padded = Pad (f, pads)
    cut = Slice (padded, starts, ends, axes)
    small = ReduceMean <axes = [1], keepdims = 1> (cut)
    z = Sub (cut, small)
    logits = MatMul (z, w)
}"""

HEAD_CONV = """<ir_version: 3, opset_import: ["" : 9]>
head (float[N, 1, 6, 6] x, float[4, 1, 3, 3] w1, float[3, 4, 1, 1] w) => (float[N, 3] logits)
{
    c = Conv <kernel_shape = [3, 3]> (x, w1)
    l = LeakyRelu <alpha = 0.1> (c)
    s = Conv (l, w)
    a = GlobalAveragePool (s)
    logits = Flatten (a)
}"""


def seeds(*, samples: bool = True) -> dict[str, Callable[[], Seed]]:
    """Return what makes each seed, by name; the sample models too where they are wanted."""
    made: dict[str, Callable[[], Seed]] = {
        "conv": lambda: Seed(_conv(), {"x": _uniform(1, 8, 8)}),
        "quantised": lambda: Seed(_quantised(), {"x": _uniform(1, 8, 8)}),
        "control": lambda: Seed(
            _model(CONTROL, {"w": (8, 3)}, {"ax": [0]}),
            {"x": _uniform(8)},
        ),
        "functions": lambda: Seed(
            _model(FUNCTIONS, {"w": (8, 3), "b": (3,)}, {}), {"x": _uniform(8)}
        ),
        "scikit": lambda: Seed(
            _model(TREES, {"w1": (8, 6), "w": (6, 3), "b": (3,)}, {}), {"x": _uniform(8)}
        ),
        "attention": lambda: Seed(_attention(), {"x": _uniform(4, 8)}),
        "recurrent": lambda: Seed(_recurrent(), {"x": _uniform(4, 8)}),
        "head": lambda: Seed(
            _model(HEAD_CONV, {"w1": (4, 1, 3, 3), "w": (3, 4, 1, 1)}, {}),
            {"x": _uniform(1, 6, 6)},
        ),
        "text": _text,
        "sparse": _sparse,
        "outside": _outside,
        "masked": _masked,
    }
    if samples:
        for path in sorted(SAMPLES.glob("*.onnx")):
            made[path.stem] = lambda path=path: Seed(onnx.load(path), {"x": _uniform(1, 28, 28)})
    return made


def _uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random((24, *shape), np.float32)


def _weights(model: ModelProto, shapes: dict[str, tuple[int, ...]]) -> ModelProto:
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def _model(
    text: str, shapes: dict[str, tuple[int, ...]], integers: dict[str, list[int]]
) -> ModelProto:
    model = _weights(onnx.parser.parse_model(text), shapes)
    for name, values in integers.items():
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(np.array(values, np.int64), name)
        )
    return model


def _conv() -> ModelProto:
    model = _model(CONV, {"w1": (4, 1, 3, 3), "b1": (4,), "w": (4, 64), "b": (4,)}, {})
    for name, value in (("scale", 1), ("shift", 0), ("mean", 0), ("var", 1)):
        values = np.full(4, value, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    model.metadata_props.add(key="maker", value="somebody")
    return model


def _quantised() -> ModelProto:
    model = _model(QUANTISED, {"w": (4, 4), "b": (4,)}, {})
    arrays = {
        "xs": np.array(1 / 255, np.float32),
        "xz": np.array(0, np.uint8),
        "wq": np.random.default_rng(2).integers(-127, 127, (4, 1, 3, 3)).astype(np.int8),
        "ws": np.full(4, 0.01, np.float32),
        "wz": np.zeros(4, np.int8),
    }
    for name, values in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def _attention() -> ModelProto:
    square = dict.fromkeys(("wq", "wk", "wv"), (8, 8))
    shapes = {"scale": (8,), "shift": (8,), **square, "w": (8, 3), "b": (3,)}
    return _model(ATTENTION, shapes, {"parts": [1, 3], "ax": [1]})


def _recurrent() -> ModelProto:
    integers = {"ax": [0], "pads": [0, 1, 0, 1], "starts": [1], "ends": [7], "axes": [1]}
    return _model(RECURRENT, {"lw": (1, 24, 8), "lr": (1, 24, 6), "w": (6, 3)}, integers)


def _text() -> Seed:
    text = TextModel()
    random = np.random.default_rng(1)
    arrays = {
        "input_ids": random.integers(0, 50, (24, 6)),
        "attention_mask": np.ones((24, 6), np.int64),
        "token_type_ids": random.integers(0, 2, (24, 6)),
    }
    return Seed(text.model, arrays)


PLAIN = """<ir_version: 8, opset_import: ["" : 17]>
plain (float[N, 8] x) => (float[N, 3] logits)
{ h = MatMul (x, w1)  f = Relu (h)  m = MatMul (f, w)  logits = Add (m, b) }"""


def _sparse() -> Seed:
    model = _model(PLAIN, {"w1": (8, 6), "b": (3,)}, {})
    sparse = model.graph.sparse_initializer.add(dims=[6, 3])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.ones(5, np.float32), "w"))
    indices = np.array([0, 4, 8, 9, 13], np.int64)
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(indices, "w_indices"))
    return Seed(model, {"x": _uniform(8)})


def _outside() -> Seed:
    model = _model(PLAIN, {"w1": (8, 6), "w": (6, 3), "b": (3,)}, {})
    content = b""
    for tensor in model.graph.initializer:
        entries = {"location": "w.bin", "offset": len(content), "length": len(tensor.raw_data)}
        content += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    return Seed(model, {"x": _uniform(8)}, {"w.bin": content})


def _masked() -> Seed:
    from cloakify.graph.analysis.head_search import find_head
    from cloakify.graph.edit.mask import insert_mask, mask_digest

    model = _model(PLAIN, {"w1": (8, 6), "w": (6, 3), "b": (3,)}, {})
    head = find_head(model).head
    mask = np.array([1, 0, 1, 1, 1, 1], np.float32)
    facts = {"mask.sha256": mask_digest(mask), "mask.removed": "1", "mask.total": "6"}
    return Seed(insert_mask(model, head, mask, facts), {"x": _uniform(8)})
