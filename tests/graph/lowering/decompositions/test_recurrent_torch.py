"""Recurrent operators written out, against torch's own layers and autograd."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.graph.lowering.run_once import run_once
from tests.support.gradcheck import gradient_model

torch = pytest.importorskip("torch", reason="torch is the oracle here")

STEPS, SAMPLES, WIDTH, HIDDEN = 4, 3, 3, 2
# Where torch keeps ONNX's gates: it has i, f, c, o for i, o, f, c, and r, z, h for z, r, h.
ORDER = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}
LENGTHS = [4, 2, 1]


def _model(op_type: str, layer: torch.nn.Module) -> onnx.ModelProto:
    order = ORDER[op_type]

    def gates(name: str) -> np.ndarray:
        sides = [getattr(layer, f"{name}_l0{side}") for side in ("", "_reverse")]
        stacked = np.stack([side.detach().numpy() for side in sides])
        parts = np.split(stacked, len(order), axis=1)
        return np.concatenate([parts[place] for place in order], axis=1)

    bias = np.concatenate([gates("bias_ih"), gates("bias_hh")], axis=1)
    more = ", linear_before_reset = 1" if op_type == "GRU" else ""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 14]> f (float[?, ?, ?] x) => (float[?, ?, ?, ?] y)'
        f'{{ y = {op_type}<hidden_size = {HIDDEN}, direction = "bidirectional"{more}>'
        "(x, w, r, b, l) }"
    )
    values = {"w": gates("weight_ih"), "r": gates("weight_hh"), "b": bias}
    values["l"] = np.array(LENGTHS, np.int32)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in values.items()
    )
    return model


@pytest.mark.parametrize("op_type", ORDER)
def test_packed_sequences(op_type: str) -> None:
    torch.manual_seed(0)
    layer = getattr(torch.nn, op_type)(WIDTH, HIDDEN, bidirectional=True)
    x = torch.randn(STEPS, SAMPLES, WIDTH, requires_grad=True)
    seed = torch.randn(STEPS, SAMPLES, 2 * HIDDEN)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0])
    (y * seed).sum().backward()
    model = gradient_model(_model(op_type, layer), {"x": x.shape}, ["x"])
    here = seed.reshape(STEPS, SAMPLES, 2, HIDDEN).transpose(1, 2).contiguous().numpy()
    (found,) = run_once(model, {"x": x.detach().numpy(), "seed_y": here})
    assert x.grad is not None
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-4, atol=1e-6)
