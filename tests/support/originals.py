"""The sample models in torch, and AutoAttack's own program on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2] / "sample_models"
FEATURES = {"fashion_pooled": "pooled", "fashion_wide": "wide", "fashion_robust": "pooled"}

Array = NDArray[np.float32]
Labels = NDArray[np.int64]


class Budget(NamedTuple):
    """Where the accuracy of a sample model lies between chance and clean."""

    model: str
    norm: str
    eps: float


BUDGETS = (
    Budget("fashion_pooled", "linf", 4 / 255),
    Budget("fashion_robust", "linf", 16 / 255),
    Budget("fashion_keras", "linf", 8 / 255),
    Budget("fashion_wide", "linf", 6 / 255),
    Budget("fashion_pooled", "l2", 0.3),
    Budget("fashion_robust", "l2", 1.2),
    Budget("fashion_keras", "l2", 0.5),
    Budget("fashion_wide", "l2", 0.3),
)


def keras_net(path: Path) -> Any:
    """Rebuild the Keras sample model up to its logits from the weights in its ONNX file.

    Takes float32 [batch, 1, 28, 28]: with one channel that is the same memory as NHWC.
    """
    import torch

    class KerasNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            graph = onnx.load(path).graph
            weights = {
                tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor).copy())
                for tensor in graph.initializer
            }
            *self.convolutions, first, bias, second, last_bias = [
                [weights[name] for name in node.input[1:]]
                for node in graph.node
                if node.op_type in ("Conv", "MatMul", "Add")
            ]
            self.dense = [(*first, *bias), (*second, *last_bias)]
            # Libraries ask a module for its device by its first parameter.
            self.dummy = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: Any) -> Any:
            for weight, bias in self.convolutions:
                h = torch.relu(torch.nn.functional.conv2d(x, weight, bias, padding=1))
                x = torch.nn.functional.max_pool2d(h, 2)
            h = x.permute(0, 2, 3, 1).flatten(1)
            (first, bias), (second, last_bias) = self.dense
            return torch.relu(h @ first + bias) @ second + last_bias

    return KerasNet()


def original(name: str) -> Any:
    """Return a sample model in torch, in evaluation mode, with logits for output."""
    from sample_models.torch_models import load_model

    if name == "fashion_keras":
        return keras_net(ROOT / f"{name}.onnx").eval()
    return load_model(ROOT / f"{name}.npz", FEATURES[name])


def first_samples(count: int) -> tuple[Array, Labels]:
    """Return the first test images [n, 1, 28, 28] and their labels."""
    with np.load(ROOT / "test.npz", allow_pickle=False) as arrays:
        return arrays["x"][:count], arrays["y"][:count]


def their_attack(
    name: str,
    model: Any,
    norm: str,
    eps: float,
    queries: int,
    seed: int = 0,
    *,
    all_windows: bool = False,
) -> Any:
    """Return AutoAttack's own attack under the name that it has here, with standard settings.

    Its Square never draws a window that reaches the last row or column; with ``all_windows`` it
    does, as in the paper (arXiv 1912.00049, algorithms 2 and 3) and here.
    """
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    from pyautoattack.fab_pt import FABAttack_PT
    from pyautoattack.square import SquareAttack

    common = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps, "seed": seed}
    if name == "apgd":
        return APGDAttack(model, **common)
    if name == "apgd-dlr":
        return APGDAttack(model, loss="dlr", **common)
    if name == "apgd-t":
        return APGDAttack_targeted(model, **common)
    if name == "fab-t":
        return FABAttack_PT(model, targeted=True, n_restarts=1, **common)
    square = SquareAttack(model, n_queries=queries, p_init=0.8, resc_schedule=False, **common)
    if all_windows:
        below = square.random_int
        square.random_int = lambda low, high: below(low, high + 1)
    return square


def withstands_theirs(
    attack: Any, model: Any, x: Array, y: Labels, batch: int = 125
) -> NDArray[np.bool_]:
    """Return which samples an attack of AutoAttack's leaves right; bool [n]."""
    import torch

    right = []
    for start in range(0, len(x), batch):
        inputs = torch.from_numpy(x[start : start + batch].copy())
        labels = torch.from_numpy(y[start : start + batch].copy())
        found = attack.perturb(inputs, labels)
        with torch.no_grad():
            right.append((model(found).argmax(dim=1) == labels).numpy())
    return np.concatenate(right)
