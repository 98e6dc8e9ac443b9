"""Train the model that the kept files were hardened from, and export it.

Run it from the repository's root, with ``pip install torch onnxscript``::

    python tests/golden/train_tiny.py tests/golden/tiny.onnx

It has two convolutions and a Gemm, 20 KB, and learns from the sample models' test images, so that
their calibration images are new to it. The kept files are verified against the ``tiny.onnx`` beside
them: train another only beside another version's files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "sample_models"))
import train_torch  # noqa: E402


class Tiny(nn.Module):
    """Takes float32 [batch, 1, 28, 28] in [0, 1]; gives logits [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8 * 7 * 7, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(h.flatten(1))


def main(path: Path) -> None:
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    with np.load(ROOT / "sample_models" / "test.npz", allow_pickle=False) as arrays:
        x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    model = Tiny()
    train_torch.train(model, x, y, epochs=30, peak_rate=0.05, robust=False)
    train_torch.export(model, path, "clean images")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
