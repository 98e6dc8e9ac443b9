"""What is told of threats that were not asked for, against models whose answers are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.assessment.other_threats import eps_of_equal_volume, other_ball
from cloakify.attacks import make_threat
from cloakify.data import Preprocessing
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.report.tables import others_table, tables
from cloakify.settings import EvaluateSetting
from cloakify.workflows.evaluate import evaluate

SIZE = 8


def write(folder: Path, layout: str) -> tuple[Path, Path]:
    """Class 1 is where the mean is above one half: attacks turn it, blur and JPEG do not."""
    shape = (1, SIZE, SIZE) if layout == "NCHW" else (SIZE, SIZE, 1)
    sizes, count = ", ".join(map(str, shape)), SIZE * SIZE
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, {sizes}] x) => (float[N, 2] logits)
        {{
            features = Flatten (x)
            logits = Gemm (features, w, b)
        }}"""
    )
    weight = np.stack([-np.ones(count), np.ones(count)], axis=1).astype(np.float32)
    bias = np.array([count / 2, -count / 2], np.float32)
    for name, values in (("w", weight), ("b", bias)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    y = np.arange(24) % 2
    x = np.random.default_rng(0).uniform(-0.2, 0.2, (24, SIZE, SIZE))
    x += (0.5 + 0.1 * (2 * y - 1) - x.mean(axis=(1, 2)))[:, None, None]
    path, data = folder / "model.onnx", folder / "data.npz"
    path.write_bytes(model.SerializeToString())
    np.savez(data, x=x.reshape(24, *shape).astype(np.float32), y=y)
    return path, data


def setting(eps: float, **more: object) -> EvaluateSetting:
    quick = {"attack": "apgd", "steps": 5, "queries": 5, "device": "cpu", "other_threats": True}
    return EvaluateSetting(**{**quick, "eps": (eps,), **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_each_threat_is_told_by_itself(tmp_path: Path, layout: str) -> None:
    model, data = write(tmp_path, layout)
    # Every mean is 0.1 from one half: linf turns it from there on, l2 from 0.1·8 on.
    for eps, withstood in ((0.07, 1.0), (0.3, 0.0)):
        report = evaluate(model, data, setting(eps)).report
        (others,) = (entry.others for entry in report.models)
        assert others is not None
        assert (others.norm.norm, others.norm.attack) == ("l2", "apgd")
        assert others.norm.eps == pytest.approx(eps * SIZE * 0.484, rel=0.05)
        assert others.norm.accuracy.value == withstood
        found = {(each.corruption, each.strength): each.accuracy for each in others.corruptions}
        assert len(found) == 12 and {figure.n for figure in found.values()} == {24}
        assert found["contrast", 0.4].value == found["blur", 1.0].value == 1.0
        table = others_table(report)
        assert len(table.rows) == 13 and table in tables(report)


def test_nothing_is_told_unasked(tmp_path: Path) -> None:
    model, data = write(tmp_path, "NCHW")
    report = evaluate(model, data, setting(0.1, other_threats=False)).report
    assert report.models[0].others is None
    assert others_table(report) not in tables(report)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dimensions", [2, 3, 700])
def test_balls_have_the_same_volume(norm: str, dimensions: int) -> None:
    spec = InputSpec("x", (None, dimensions), np.dtype(np.float32), None)
    threat = make_threat(norm, 0.3, spec, Preprocessing(), None)
    other = other_ball(threat, eps_of_equal_volume(threat, dimensions))
    by_norm = {ball.norm: ball.eps for ball in (threat, other)}
    assert set(by_norm) == {"linf", "l2"}
    cube = dimensions * math.log(2 * by_norm["linf"])
    half = dimensions / 2
    ball = half * math.log(math.pi) - math.lgamma(half + 1) + dimensions * math.log(by_norm["l2"])
    assert cube == pytest.approx(ball, rel=1e-9)
