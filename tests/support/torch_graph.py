"""Run small ONNX graphs in torch: another runtime, with autograd, to hold cloakify against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is the oracle here")


def run_in_torch(model: onnx.ModelProto, x: Any, wanted: list[str]) -> list[Any]:
    """Return the values of some tensors of ``model`` for the input ``x``, differentiable."""
    values: dict[str, Any] = {
        tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in model.graph.initializer
    }
    values[next(v.name for v in model.graph.input if v.name not in values)] = x
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        arguments = [values[name] if name else None for name in node.input]
        values[node.output[0]] = _OPERATORS[node.op_type](arguments, attributes)
    return [values[name] for name in wanted]


def _conv(a: list[Any], k: dict[str, Any]) -> Any:
    top, left, bottom, right = k.get("pads", [0, 0, 0, 0])
    padded = torch.nn.functional.pad(a[0], (left, right, top, bottom))
    bias = a[2] if len(a) > 2 else None
    stride, dilation = tuple(k.get("strides", [1, 1])), tuple(k.get("dilations", [1, 1]))
    return torch.nn.functional.conv2d(
        padded, a[1], bias, stride, dilation=dilation, groups=k.get("group", 1)
    )


def _gemm(a: list[Any], k: dict[str, Any]) -> Any:
    left = a[0].T if k.get("transA") else a[0]
    right = a[1].T if k.get("transB") else a[1]
    return k.get("alpha", 1.0) * left @ right + k.get("beta", 1.0) * a[2]


def _max_pool(a: list[Any], k: dict[str, Any]) -> Any:
    assert not any(k.get("pads", []))
    return torch.nn.functional.max_pool2d(a[0], k["kernel_shape"], k["strides"])


def _slice(a: list[Any], k: dict[str, Any]) -> Any:
    (start,), (end,) = a[1].tolist(), a[2].tolist()
    return a[0][start:end]


_OPERATORS: dict[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "Add": lambda a, k: a[0] + a[1],
    "Cast": lambda a, k: a[0],
    "Concat": lambda a, k: torch.cat(a, k["axis"]),
    "Conv": _conv,
    "Gather": lambda a, k: a[0][a[1]],
    "Gemm": _gemm,
    "MatMul": lambda a, k: a[0] @ a[1],
    "MaxPool": _max_pool,
    "Mul": lambda a, k: a[0] * a[1],
    "ReduceMean": lambda a, k: a[0].mean(a[1].tolist(), keepdim=bool(k.get("keepdims", 1))),
    "Relu": lambda a, k: torch.relu(a[0]),
    "Reshape": lambda a, k: a[0].reshape(
        [a[0].shape[i] if size == 0 else size for i, size in enumerate(a[1].tolist())]
    ),
    "Shape": lambda a, k: torch.tensor(a[0].shape),
    "Slice": _slice,
    "Softmax": lambda a, k: torch.softmax(a[0], k.get("axis", -1)),
    "Transpose": lambda a, k: a[0].permute(k["perm"]),
}
