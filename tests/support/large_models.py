"""Models whose weights take gigabytes, all but a few of which are holes on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from cloakify.onnxfile.laid_aside import bytes_of
from cloakify.onnxfile.mapped import map_tensor
from cloakify.onnxfile.sidecars import MOST_SPARSE

INPUT, CLASSES = 32, 10


def layered(widths: list[int]) -> tuple[ModelProto, dict[str, tuple[int, int]]]:
    """Return x [N, 32] -> layers with ReLUs -> logits [N, 10], and the shape of each weight."""
    shapes = {
        f"w{place}": shape
        for place, shape in enumerate(zip([INPUT, *widths], [*widths, CLASSES], strict=True))
    }
    nodes, value = [], "x"
    for name in shapes:
        product = "logits" if name == f"w{len(widths)}" else f"p{name}"
        nodes.append(onnx.helper.make_node("MatMul", [value, name], [product]))
        if product != "logits":
            value = f"r{name}"
            nodes.append(onnx.helper.make_node("Relu", [product], [value]))
    ends = [
        [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])]
        for name, size in (("x", INPUT), ("logits", CLASSES))
    ]
    graph = onnx.helper.make_graph(nodes, "large", *ends)
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), shapes


def write_beside(path: Path, widths: list[int]) -> None:
    """Write a model with its weights in a sidecar, nearly all holes: rows of the first inputs."""
    model, shapes = layered(widths)
    sidecar = path.with_suffix(".data")
    rng = np.random.default_rng(0)
    offset = 0
    with open(sidecar, "wb") as file:
        for name, (rows, columns) in shapes.items():
            tensor = model.graph.initializer.add(name=name, data_type=TensorProto.FLOAT)
            tensor.dims.extend((rows, columns))
            tensor.data_location = TensorProto.EXTERNAL
            size = 4 * rows * columns
            for key, value in (("location", sidecar.name), ("offset", offset), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            # Twice as many as a file is refused for.
            written = min(rows, max(INPUT, 2 * rows // MOST_SPARSE))
            file.seek(offset)
            values = rng.standard_normal((written, columns)) / np.sqrt(rows)
            file.write(values.astype(np.float32).tobytes())
            offset += -(-size // 4096) * 4096
        file.truncate(offset)
    path.write_bytes(model.SerializeToString())


def write_within(path: Path, widths: list[int]) -> None:
    """Write the same with its weights in the file; the disk holds all of it."""
    write_beside(path, widths)
    model = onnx.load(path, load_external_data=False)
    sidecar = path.with_suffix(".data")
    for tensor in model.graph.initializer:
        map_tensor(tensor, sidecar)
    with open(path, "wb") as file:
        file.writelines(bytes_of(model))
    sidecar.unlink()
