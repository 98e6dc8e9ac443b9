"""`GridSample` written out computes the same, and has torch's gradients."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.errors import UnsupportedOperatorError
from tests.support.gradcheck import gradient_model

TEXT = """<ir_version: 8, opset_import: ["" : 20]>
f ({kind}[N, C, H, W] x, {kind}[N, A, B, 2] grid) => ({kind}[N, C, A, B] y) {{
    y = GridSample <mode = "{mode}", padding_mode = "{padding}", align_corners = {aligned}>
        (x, grid)
}}"""


def model(kind: str, mode: str, padding: str, aligned: bool) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        TEXT.format(kind=kind, mode=mode, padding=padding, aligned=int(aligned))
    )


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 3)])
def test_value_and_gradient(mode: str, padding: str, aligned: bool, shape: tuple[int, ...]):
    torch = pytest.importorskip("torch", reason="torch is the oracle here")
    if aligned and padding == "reflection" and 1 in shape[2:]:
        pytest.skip("nothing to reflect between one centre and itself: torch returns NaN")
    random = np.random.default_rng(0)
    x = random.standard_normal(shape)
    # Well outside the image too.
    grid = random.uniform(-3.3, 3.3, (shape[0], 3, 4, 2))
    feeds = {"x": x.astype(np.float32), "grid": grid.astype(np.float32)}
    wanted = ["x", "grid"] if mode == "linear" else ["x"]
    message = model("float", mode, padding, aligned)
    shapes = {name: value.shape for name, value in feeds.items()}
    built = gradient_model(message, shapes, wanted)
    places = [torch.tensor(value, requires_grad=True) for value in feeds.values()]
    value = torch.nn.functional.grid_sample(
        *places,
        mode="bilinear" if mode == "linear" else mode,
        padding_mode=padding,
        align_corners=aligned,
    )
    (y,) = ort.InferenceSession(message.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(y, value.detach().numpy(), atol=1e-5)
    seeds = random.standard_normal(value.shape).astype(np.float32)
    session = ort.InferenceSession(built.SerializeToString())
    found = session.run(None, {**feeds, "seed_y": seeds})
    exact = torch.autograd.grad(value, places, torch.tensor(seeds))
    for one, other in zip(found, exact, strict=False):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4)


def test_a_constant_grid():
    grid = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 2)).astype(np.float32)
    message = model("float", "linear", "zeros", False)
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype(np.float32)
    seed = np.random.default_rng(2).standard_normal((2, 3, 3, 4)).astype(np.float32)
    shapes = {"x": x.shape, "grid": grid.shape}
    (expected,) = ort.InferenceSession(
        gradient_model(message, shapes, ["x"]).SerializeToString()
    ).run(None, {"x": x, "grid": grid, "seed_y": seed})
    del message.graph.input[1]
    message.graph.initializer.append(onnx.numpy_helper.from_array(grid, "grid"))
    built = gradient_model(message, {"x": x.shape}, ["x"])
    (found,) = ort.InferenceSession(built.SerializeToString()).run(None, {"x": x, "seed_y": seed})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_cubic_reading_is_refused():
    with pytest.raises(UnsupportedOperatorError, match=r"GridSample 'y' reads in mode 'cubic'.*"):
        shapes = {"x": (1, 1, 4, 4), "grid": (1, 2, 2, 2)}
        gradient_model(model("double", "cubic", "zeros", False), shapes, ["x"])
