"""Models of a few hundred bytes that ask for gigabytes or hours, as the command meets them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.limits.supervisor import can_supervise
from tests.fuzz.observe import observe

pytestmark = pytest.mark.skipif(not can_supervise(), reason="needs Linux")

FRAME = """<ir_version: 8, opset_import: ["" : 17]>
f (float[N, 12] x) => (float[N, 4] logits) <{weights}> {{ {body} logits = MatMul (f, w) }}"""

CONCAT = " ".join(f"t{n + 1} = Concat <axis = 1> (t{n}, t{n})" for n in range(30))

BODIES = {
    "a constant of 8 GB": (
        "int64[1] shape = {2000000000}",
        "c = ConstantOfShape (shape) r = ReduceSum <keepdims = 0> (c) f = Add (x, r)",
    ),
    "twice as large, thirty times": (
        "int64[1] one = {1}",
        f"t0 = Unsqueeze (x, one) {CONCAT} f = ReduceMean <axes = [1], keepdims = 0> (t30)",
    ),
    "as large as the samples say": (
        "int64[1] one = {1}, float many = {800000000}",
        "m = Mul (x, many) n = Cast <to = 7> (m) l = ReduceMax <keepdims = 0> (n) "
        "s = Reshape (l, one) c = ConstantOfShape (s) r = ReduceSum <keepdims = 0> (c) "
        "f = Add (x, r)",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where samples lie."""
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).random((24, 12), np.float32))
    return tmp_path


@pytest.mark.parametrize(
    "kind", [next(iter(BODIES)), *(pytest.param(kind, marks=pytest.mark.slow) for kind in BODIES)]
)
def test_memory(folder: Path, kind: str) -> None:
    constants, body = BODIES[kind]
    rows = ", ".join(["1"] * 48)
    text = FRAME.format(weights=f"float[12, 4] w = {{{rows}}}, {constants}", body=body)
    onnx.save(onnx.parser.parse_model(text), folder / "m.onnx")
    data = ["m.onnx", "--data", "d.npz", "--labels", "model", "--device", "cpu", "--quiet"]
    found = observe(["evaluate", *data, "--attack", "square"], folder)
    assert found.code == 3 and found.beyond is None
    assert found.errors.startswith("Error: m.onnx: ") and found.errors.count("\n") == 1
    assert "took more than 2." in found.errors


@pytest.mark.slow
def test_time(folder: Path) -> None:
    """Ten seconds of a processor are enough to see that a loop does not end."""
    text = FRAME.format(
        weights=f"float[12, 4] w = {{{', '.join(['1'] * 48)}}}",
        body="trips = Constant <value_int = 9000000000000000000> () "
        "yes = Constant <value = bool {1}> () f = Loop (trips, yes, x) <body = step "
        "(int64 i, bool go, float[N, 12] state) => (bool still, float[N, 12] next) "
        "{ still = Identity (go) next = Sigmoid (state) }>",
    )
    onnx.save(onnx.parser.parse_model(text), folder / "m.onnx")
    data = ["m.onnx", "--data", "d.npz", "--labels", "model", "--device", "cpu", "--quiet"]
    found = observe(["evaluate", *data, "--attack", "square"], folder)
    assert found.code == 3 and found.beyond is None
    assert (
        found.errors
        == "Error: m.onnx: running it took more than 10 s; --trust works without limits\n"
    )


def test_memory_of_what_is_looked_at_behind_the_opening(folder: Path) -> None:
    """A transformed file is searched for a mask; onnx follows its vectors number by number."""
    rows = ", ".join(["1"] * 48)
    bodies = {
        "source": ("", "f = Relu (x)"),
        "m": (
            ", int64[1] shape = {400000000}",
            "c = ConstantOfShape (shape) d = Add (c, c) r = ReduceSum <keepdims = 0> (d) "
            "f = Add (x, r)",
        ),
    }
    for name, (constants, body) in bodies.items():
        text = FRAME.format(weights=f"float[12, 4] w = {{{rows}}}{constants}", body=body)
        onnx.save(onnx.parser.parse_model(text), folder / f"{name}.onnx")
    found = observe(["verify", "m.onnx", "--against", "source.onnx", "--device", "cpu"], folder)
    assert found.code == 3 and found.beyond is None
    assert found.errors.startswith("Error: source.onnx, m.onnx: ")
    assert found.errors.count("\n") == 1 and "took more than 2." in found.errors


def test_vectors_of_all_samples_positions_are_no_hostile_ones(folder: Path) -> None:
    """What is tried in the place of symbolic sizes is not beyond what a stranger may take."""
    onnx.save(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]> f (int64[N, T] ids) => (float[N, 2] logits)
            <int64[1] one = {1}, int64[1] minus = {-1}, float[1, 2] w = {1, 2}> {
                flat = Reshape (ids, minus)  c = Cast <to = 1> (flat)  both = Add (c, c)
                s = Shape (ids)  back = Reshape (both, s)
                m = ReduceMean <axes = [1]> (back)  logits = MatMul (m, w) }"""
        ),
        folder / "m.onnx",
    )
    found = observe(["inspect", "m.onnx"], folder)
    assert (found.code, found.errors) == (0, "")
    assert found.peak < 1 << 30


@pytest.mark.slow
def test_memory_of_a_gradient(folder: Path) -> None:
    """That of a resized axis is a matrix, of as many rows and columns as there are positions."""
    onnx.save(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]> f (float[N, 12] x) => (float[N, 4] logits)
            <int64[1] ones = {1}, float[1, 4] w = {1, 2, 3, 4},
            float[3] longer = {1, 1, 3333.34}, float[3] half = {1, 1, 0.7}> {
                u = Unsqueeze (x, ones)
                a = Resize <mode = "linear"> (u, , longer)  b = Resize <mode = "linear"> (a, , half)
                m = ReduceMean <axes = [2], keepdims = 0> (b)  logits = MatMul (m, w) }"""
        ),
        folder / "m.onnx",
    )
    data = ["m.onnx", "--data", "d.npz", "--labels", "model", "--device", "cpu", "--quiet"]
    found = observe(["evaluate", *data, "--attack", "fgsm", "--eps", "0.1"], folder)
    assert found.code == 3 and found.beyond is None
    assert found.errors.startswith("Error: m.onnx: differentiating it took more than ")
    assert found.errors.count("\n") == 1
