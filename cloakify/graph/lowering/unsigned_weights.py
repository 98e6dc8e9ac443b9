"""Weights of 8 bits beside unsigned features become unsigned, too: w + 128 with a zero 128 higher.

Products come out the same. On processors without VNNI, ONNX Runtime cuts off sums of products of
unsigned with signed numbers; its own option against that (``session.x64quantprecision``) does not
know the operators of recent opsets.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from cloakify.graph.lowering.state import Lowering
from cloakify.graph.model.names import names_in
from cloakify.graph.model.rewrite import given
from cloakify.onnxfile import values_of

_MIDDLE = 128

# By operator: which inputs are the weight and its zero point.
_PLACES = {
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), (1, 3)),
    **dict.fromkeys(("QGemm", "QLinearConv", "QLinearMatMul"), (3, 5)),
}


def store_unsigned_weights(lowering: Lowering) -> bool:
    """Store signed weights of integer products as unsigned ones, where the features are."""
    stored = _Unsigned(lowering)
    changed = False
    for node in lowering.model.graph.node:
        weight, zero = _PLACES.get(node.op_type, (0, 0))
        if not weight or lowering.types.get(node.input[0]) != TensorProto.UINT8:
            continue
        places = [weight, *([zero] if given(node, zero) else [])]
        if not all(stored.is_signed(node.input[place]) for place in places):
            continue
        for place in places:
            node.input[place] = stored.unsigned(node.input[place])
        if len(places) == 1:
            node.input.extend([""] * (zero + 1 - len(node.input)))
            node.input[zero] = stored.middle()
        changed = True
    return changed


class _Unsigned:
    """Stores constants as unsigned numbers, each once."""

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering
        self._names = names_in(lowering.model)
        graph = lowering.model.graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer} | lowering.weights
        self._made: dict[str, str] = {}

    def is_signed(self, name: str) -> bool:
        """Tell whether a value is a constant of signed 8-bit numbers."""
        tensor = self._constants.get(name)
        return tensor is not None and tensor.data_type == TensorProto.INT8

    def unsigned(self, name: str) -> str:
        """Return what a constant is called as unsigned numbers."""
        if name not in self._made:
            values = values_of(self._constants[name]).astype(np.int16) + _MIDDLE
            self._made[name] = self._store(name, values, large=name in self._lowering.weights)
        return self._made[name]

    def middle(self) -> str:
        """Return what the zero point is called where none was given."""
        if "" not in self._made:
            self._made[""] = self._store("zero", np.array(_MIDDLE), large=False)
        return self._made[""]

    def _store(self, name: str, values: NDArray[np.integer], *, large: bool) -> str:
        tensor = onnx.numpy_helper.from_array(
            values.astype(np.uint8), self._names.fresh(f"{name}_unsigned")
        )
        graph = self._lowering.model.graph
        if large:
            self._lowering.weights[tensor.name] = tensor
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, TensorProto.UINT8, values.shape)
            )
        else:
            graph.initializer.append(tensor)
        self._lowering.types[tensor.name] = TensorProto.UINT8
        self._lowering.shapes[tensor.name] = values.shape
        return tensor.name
