"""Steps in a transform of the input, against an attack of torch's with a smooth stand-in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray

from cloakify.attacks.apgd import ApgdBpda
from tests.support.classifiers import target_of, threat_of

torch = pytest.importorskip("torch", reason="an attack of torch's is the oracle")

from torch.nn.functional import conv2d, conv_transpose2d, cross_entropy  # noqa: E402

from sample_models.torch_models import load_model  # noqa: E402

EPS, SIDE, SAMPLES = 4 / 255, 4, 40


def cosines() -> NDArray[np.float32]:
    """Return the discrete cosine transform of blocks, [16, 1, 4, 4]."""
    place, wave = np.arange(SIDE), np.arange(SIDE)[:, None]
    rows = np.cos(np.pi * (2 * place + 1) * wave / (2 * SIDE)) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    return np.einsum("ai,bj->abij", rows, rows).reshape(-1, 1, SIDE, SIDE).astype(np.float32)


def quantisation() -> NDArray[np.float32]:
    """Return a table as JPEG has them, coarser for shorter waves, [1, 16, 1, 1]."""
    wave = np.arange(SIDE)
    return (0.1 + 0.04 * np.add.outer(wave, wave)).reshape(1, -1, 1, 1).astype(np.float32)


def quantised(path: Path) -> onnx.ModelProto:
    """Return the sample model behind a quantiser of its blocks' cosines."""
    model = onnx.load(path)
    front = onnx.parser.parse_graph(
        """front (float[N, 1, 28, 28] input) => (float[N, 1, 28, 28] seen)
        { waves = Conv <strides = [4, 4]> (input, cosines)  parts = Div (waves, table)
          whole = Round (parts)  kept = Mul (whole, table)
          seen = ConvTranspose <strides = [4, 4]> (kept, cosines) }"""
    )
    for node in model.graph.node:
        node.input[:] = ["seen" if name == "input" else name for name in node.input]
    rest = [*model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*front.node, *rest])
    for name, values in (("cosines", cosines()), ("table", quantisation())):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    del model.graph.value_info[:]
    return model


def left_by_torch(samples: Path, x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Attack with r + (c − r)³ for the rounding r of c (Shin & Song, 2017), sign by sign."""
    net = load_model(samples / "fashion_pooled.npz", "pooled")
    basis, table = torch.tensor(cosines()), torch.tensor(quantisation())
    clean, labels = torch.tensor(x), torch.tensor(y)
    left = torch.ones(len(x), dtype=torch.bool)
    point, size = clean.clone(), EPS
    for step in range(40):
        point.requires_grad_(True)
        parts = conv2d(point, basis, stride=SIDE) / table
        whole = parts.round().detach()
        smooth = (parts - whole) ** 3
        kept = (whole + smooth - smooth.detach()) * table
        logits = net(conv_transpose2d(kept, basis, stride=SIDE))
        left &= logits.argmax(1) == labels
        (slope,) = torch.autograd.grad(cross_entropy(logits, labels, reduction="sum"), point)
        size = size / 2 if step in (15, 25, 33) else size
        moved = (point + size * slope.sign()).clamp(0, 1).detach()
        point = torch.minimum(torch.maximum(moved, clean - EPS), clean + EPS)
    return float(left.float().mean())


def test_a_quantised_transform_withstands_no_more_than_a_smooth_one(samples: Path) -> None:
    with np.load(samples / "test.npz", allow_pickle=False) as arrays:
        index = np.arange(0, 2000, 2000 // SAMPLES)
        x, y = arrays["x"][index], arrays["y"][index]
    target = target_of(quantised(samples / "fashion_pooled.onnx"), batch_size=20)
    threat = threat_of(target, "linf", EPS)
    attacked = ApgdBpda(steps=10).run(target, x, y, index, threat)
    assert np.abs(attacked - x).max() <= EPS + 1e-6
    left = float(target.correct(attacked, y).mean())
    assert left <= left_by_torch(samples, x, y)
