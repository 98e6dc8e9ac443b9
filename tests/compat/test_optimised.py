"""A transformer that ONNX Runtime's optimiser has fused: its gradient is torch's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is the oracle here")
optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
from onnxruntime.transformers.fusion_options import FusionOptions  # noqa: E402

from cloakify.graph.lowering.run_once import run_once  # noqa: E402
from tests.compat.support import oracle  # noqa: E402
from tests.support.gradcheck import gradient_model  # noqa: E402

pytestmark = pytest.mark.compat

WIDTH, HEADS, CLASSES = 32, 4, 5


class Layer(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A layer of BERT, in the form that the optimiser looks for."""

    def __init__(self) -> None:
        super().__init__()
        linear = torch.nn.Linear
        self.query, self.key, self.value, self.out = (linear(WIDTH, WIDTH) for _ in range(4))
        self.wide, self.narrow = linear(WIDTH, 2 * WIDTH), linear(2 * WIDTH, WIDTH)
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(WIDTH) for _ in range(2))

    def forward(self, x: Any, mask: Any) -> Any:
        def split(part: Any) -> Any:
            return part.view(x.size(0), x.size(1), HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)

        query, key, value = (split(f(x)) for f in (self.query, self.key, self.value))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(WIDTH // HEADS) + mask
        seen = torch.matmul(scores.softmax(-1), value).permute(0, 2, 1, 3).contiguous()
        x = self.norms[0](self.out(seen.view(seen.size(0), seen.size(1), WIDTH)) + x)
        return self.norms[1](self.narrow(torch.nn.functional.gelu(self.wide(x))) + x)


class Classifier(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Two layers over embedded words, some of which are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, CLASSES)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(2))

    def forward(self, x: Any, shown: Any) -> Any:
        mask = (1.0 - shown.unsqueeze(1).unsqueeze(2).to(torch.float32)) * -10000.0
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x[:, 0])


@pytest.mark.parametrize("fused", ["Attention", "MultiHeadAttention"])
def test_fused_by_the_runtimes_optimiser(fused: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier().eval()
    x = torch.randn(2, 6, WIDTH, requires_grad=True)
    shown = torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6])
    axes = {name: {0: "N", 1: "L"} for name in ("x", "shown")}
    options = {
        "dynamo": False,
        "opset_version": 14,
        "input_names": ["x", "shown"],
        "output_names": ["y"],
        "dynamic_axes": axes,
    }
    oracle.export_quietly(model, (x.detach(), shown), tmp_path / "plain.onnx", options)
    fusion = FusionOptions("bert")
    fusion.use_multi_head_attention = fused == "MultiHeadAttention"
    optimised = optimizer.optimize_model(
        str(tmp_path / "plain.onnx"),
        model_type="bert",
        num_heads=HEADS,
        hidden_size=WIDTH,
        opt_level=0,
        optimization_options=fusion,
    )
    optimised.save_model_to_file(str(tmp_path / "fused.onnx"))
    loaded = onnx.load(tmp_path / "fused.onnx")
    assert [node.op_type for node in loaded.graph.node].count(fused) == 2
    y = model(x, shown)
    seed = torch.randn_like(y)
    (y * seed).sum().backward()
    backward = gradient_model(loaded, {"x": (2, 6, WIDTH), "shown": (2, 6)}, ["x"])
    feeds = {"x": x.detach().numpy(), "shown": shown.numpy(), "seed_y": seed.numpy()}
    (found,) = run_once(backward, feeds)
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-3, atol=1e-5)
