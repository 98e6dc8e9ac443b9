"""Models that the tests of the onnxfile package share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

SMALL = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3], producer_name: "exporter">
classifier (float[N, 4] x) => (float[N, 3] logits)
<float[4, 3] weight = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[3] bias = {0, 0, -1}>
{
    [first] h = LeakyRelu <alpha: float = 0.5> (x)
    [second] f = Relu (h)
    [head] logits = Gemm <transB: int = 0> (f, weight, bias)
}
"""


@pytest.fixture(scope="session")
def small() -> ModelProto:
    """Three nodes, two initializers, one metadata entry of somebody else."""
    model = onnx.parser.parse_model(SMALL)
    entry = model.metadata_props.add()
    entry.key, entry.value = "author", "somebody"
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


@pytest.fixture
def external(tmp_path: Path, small: ModelProto) -> Callable[..., Path]:
    """`external("data/w")` writes the model with its weight in that sidecar; returns its path.

    With ``make=False`` the sidecar is only named.
    """

    def make(location: str, *, make: bool = True) -> Path:
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        model = ModelProto()
        model.CopyFrom(small)
        weight = model.graph.initializer[0]
        data = onnx.numpy_helper.to_array(weight).astype(np.float32).tobytes()
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("length", str(len(data)))):
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
        if make:
            sidecar = folder / location
            sidecar.parent.mkdir(parents=True, exist_ok=True)
            sidecar.write_bytes(data)
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make
