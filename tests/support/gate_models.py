"""Small classifiers with every kind of layer that takes gates, and weights for them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto

CNN = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,6,6] x, float[4,3,3,3] w1, float[4] b1, float[4] scale, float[4] shift,
     float[4] mean, float[4] var, float[4,1,3,3] w2, float[5,4] w3, float[1,5] b3,
     float[5,3] w4, float[3] b4) => (float[N,3] logits)
{
    first = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    normal = BatchNormalization (first, scale, shift, mean, var)
    active = Relu (normal)
    depth = Conv <group = 4> (active, w2)
    deep = Relu (depth)
    pooled = GlobalAveragePool (deep)
    flat = Flatten (pooled)
    hidden = Gemm <transB = 1> (flat, w3, b3)
    features = Relu (hidden)
    logits = Gemm (features, w4, b4)
}
"""

TRANSFORMER = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,5,4] x, float[4] scale, float[4] shift, float[4,4] wq, float[1,1,4] bq,
     float[4,4] wkv, float[4,4] wo, float[4] bo, float[4,3] wh, float[3] bh)
    => (float[N,3] logits)
{
    normal = LayerNormalization <axis = -1> (x, scale, shift)
    q_plain = MatMul (normal, wq)
    q = Add (bq, q_plain)
    k = MatMul (normal, wkv)
    v = MatMul (normal, wkv)
    turned = Transpose <perm = [0, 2, 1]> (k)
    scores = MatMul (q, turned)
    weights = Softmax <axis = -1> (scores)
    mixed = MatMul (weights, v)
    mixed_a = MatMul (mixed, wo)
    mixed_b = Add (mixed_a, bo)
    summed = Add (mixed_b, x)
    features = ReduceMean <axes = [1], keepdims = 0> (summed)
    scaled = MatMul (features, wh)
    logits = Add (scaled, bh)
}
"""


def filled(text: str, seed: int = 0) -> ModelProto:
    """Return the model with every input but the first as a random constant."""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for value in model.graph.input[1:]:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        values = rng.standard_normal(shape).astype(np.float32)
        if value.name == "var":
            values = np.abs(values) + 0.5
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, value.name))
    del model.graph.input[1:]
    return model
