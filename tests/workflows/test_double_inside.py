"""Models that take and give floats of 32 bits, and compute in 64 bits in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.cli.main import run

W1 = np.random.default_rng(0).standard_normal((12, 16)).astype(np.float32)
W2 = np.random.default_rng(1).standard_normal((16, 5)).astype(np.float32)
X = np.random.default_rng(2).random((120, 12), np.float32)
Y = (np.maximum((X - 0.5) @ W1, 0) @ W2).argmax(axis=1)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str, str]:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 12] x) => (float[N, 5] y)
        <float half = {0.5}> { c = Sub (x, half)  d = Cast <to = 11> (c)
        u = Cast <to = 11> (w1)  h = MatMul (d, u)  f = Relu (h)
        v = Cast <to = 11> (w2)  z = MatMul (f, v)  y = Cast <to = 1> (z) }"""
    )
    for name, values in (("w1", W1), ("w2", W2)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    return str(tmp_path / "m.onnx"), str(tmp_path / "d.npz"), str(tmp_path / "out.onnx")


@pytest.mark.parametrize(
    "asked",
    [
        ["--mask-ratio", "0.2", "--score", "deepcloak"],
        ["--method", "tuned", "--tune-steps", "30", "--max-accuracy-drop", "0.5", "--write-anyway"],
    ],
)
def test_they_are_hardened_and_proven(asked, paths, capsys):
    model, data, out = paths
    given = ["--data", data, "--eps", "0.05", "--effort", "quick", "--device", "cpu"]
    assert run(["harden", model, *given, *asked, "-o", out]) == 0, capsys.readouterr()
    assert run(["verify", out, "--against", model]) == 0, capsys.readouterr()


def test_gradients_for_torch_are_those_of_the_layers(paths):
    torch = pytest.importorskip("torch")
    from cloakify.runtime.torch_module import OnnxModule

    x = torch.tensor(X[:4], requires_grad=True)
    seed = torch.tensor(np.random.default_rng(3).standard_normal((4, 5)))
    (OnnxModule(paths[0], device="cpu")(x) * seed).sum().backward()
    open_gates = (X[:4] - 0.5) @ W1.astype(np.float64) > 0
    expected = (seed.numpy() @ W2.T * open_gates) @ W1.T
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5, atol=1e-6)
