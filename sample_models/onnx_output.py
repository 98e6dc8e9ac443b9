"""Write an exported model as one tidy ``.onnx`` file, and measure it in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

# PyTorch's exporter records where on the exporting machine each operator came from.
_MACHINE_SPECIFIC = ("pkg.torch.onnx.stack_trace",)

_COMMON_METADATA = {
    "dataset": "Fashion-MNIST (Zalando Research), MIT licence",
    "license": "Apache-2.0",
    "input_range": "0,1",
}


def write(model: onnx.ModelProto, path: Path, metadata: dict[str, str]) -> None:
    """Check `model`, note what it takes in its metadata, strip machine paths and save it whole.

    The weights are inside the file; `metadata` is added to the licence and input range that all the
    sample models state.
    """
    _strip_machine_paths(model.graph)
    for function in model.functions:
        _strip_machine_paths(function)
    onnx.helper.set_model_props(model, _COMMON_METADATA | metadata)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def accuracy(path: Path, x: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of `x`, in the model's layout, that the file classifies rightly on the CPU.

    A single probability is that of class 1.
    """
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = 0
    for start in range(0, len(x), 500):
        (scores,) = session.run(None, {name: x[start : start + 500]})
        answers = scores[:, 0] > 0.5 if scores.shape[1] == 1 else scores.argmax(1)
        right += int((answers == labels[start : start + 500]).sum())
    return right / len(x)


def _strip_machine_paths(graph: onnx.GraphProto | onnx.FunctionProto) -> None:
    for node in graph.node:
        kept = [entry for entry in node.metadata_props if entry.key not in _MACHINE_SPECIFIC]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
