"""What must work once the recipes of CONTRIBUTING were followed, each in one function.

Run with the changed package in front on the path; prints a JSON object of what failed, by name.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_models"


def command(*arguments: str) -> tuple[int, str, str]:
    """Run the command line; return its exit code and what it printed."""
    from cloakify.cli.main import run

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    return code, out.getvalue(), err.getvalue()


def model_of(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """Parse a model, and give it weights."""
    model = onnx.parser.parse_model(text)
    for name, values in weights.items():
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(tensor)
    return model


def an_attack() -> None:
    """It runs under its name, moves samples within the budget, and fools more than nothing."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/adv.npz"
        model, data = str(SAMPLES / "fashion_pooled.onnx"), str(SAMPLES / "test.npz")
        some = ["--limit", "30", "--device", "cpu", "--eps", "8/255", "--steps", "6"]
        code, printed, _ = command(
            "attack", model, "--data", data, "--attack", "scaled", *some, "-o", out, "--json"
        )
        assert code == 0
        figures = json.loads(printed)["accuracy"]
        with np.load(out) as arrays, np.load(data) as clean:
            moved = np.abs(arrays["x"] - clean["x"][arrays["index"]]).max()
        assert 0.02 < moved <= 8 / 255 + 1e-6
        assert figures["attacked"]["value"] < figures["clean"]["value"] - 0.3, figures


def an_operators_gradient() -> None:
    """The gradient of a matrix's inverse is that of finite differences."""
    from cloakify.attacks import Target
    from cloakify.graph.analysis.classifier_search import find_classifier
    from cloakify.graph.analysis.inputs import find_input
    from cloakify.runtime import Device

    rng = np.random.default_rng(0)
    model = model_of(
        """<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>
        f (float[N, 3, 3] x) => (float[N, 4] logits)
        { y = com.microsoft.Inverse (x) h = Flatten (y) logits = Gemm (h, w, b) }""",
        w=rng.standard_normal((9, 4)),
        b=rng.standard_normal(4),
    )
    target = Target(model, find_input(model), find_classifier(model).scores, Device("cpu"))
    x = (np.eye(3) + 0.2 * rng.standard_normal((2, 3, 3))).astype(np.float32)
    y = np.array([0, 2])
    way = rng.standard_normal(x.shape).astype(np.float32)
    exact = (target.evaluate(x, y).gradient * way).sum(axis=(1, 2))
    step = np.float32(1e-2)
    above, below = (target.evaluate(x + sign * step * way, y).loss for sign in (1, -1))
    np.testing.assert_allclose(exact, (above - below) / (2 * step), rtol=0.02, atol=1e-2)


def a_data_format() -> None:
    """Samples and labels are read; one without a label is an error of the data."""
    from cloakify.data import Preprocessing, open_data
    from cloakify.errors import DataError
    from cloakify.graph.analysis.inputs import InputSpec
    from cloakify.settings.endings import ALL

    assert ".xy" in ALL
    spec = InputSpec("x", (None, 3), np.dtype(np.float32), None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.xy"
        path.write_text('{"x": [0.5, 0.25, 1], "y": 0}\n{"x": [0, 0.5, 0.75], "y": 1}\n')
        data = open_data(path, spec, Preprocessing())
        (batch,) = data.batches(None, 2)
        assert batch.x.tolist() == [[0.5, 0.25, 1], [0, 0.5, 0.75]]
        assert batch.y.tolist() == [0, 1]
        path.write_text('{"x": [0.5, 0.25, 1]}\n')
        try:
            open_data(path, spec, Preprocessing())
        except DataError as error:
            assert "lines without x and y" in str(error)
        else:
            raise AssertionError("a sample without a label was taken")


def a_mask_score() -> None:
    """It is a value of the option, and one of the rankings that are compared."""
    from cloakify.masking.linear_head import LinearHead
    from cloakify.masking.rankings import RANKINGS, candidates
    from cloakify.masking.statistics import FeatureStatistics

    assert "weighted" in candidates("auto")
    sums = FeatureStatistics(3, 3, 0, np.array([1.0, 2.0, 3.0]), np.zeros(3))
    head = LinearHead(np.array([[9, 0], [1, 0], [1, 1]], np.float32), np.zeros(2, np.float32))
    ((first, *_),) = RANKINGS["weighted"](sums, head, None)  # type: ignore[arg-type]
    assert first == 0
    assert "weighted" in command("harden", "--help")[1]


def a_report_field() -> None:
    """It is in the schema and in what is written, and older reports can be read without it."""
    from cloakify.report.json_report import load_schema, read_json

    assert "chance" in load_schema()["$defs"]["HardenReport"]["properties"]
    read_json((ROOT / "tests" / "golden" / "v0.1.0" / "tiny-auto.json").read_text())
    model, data = str(SAMPLES / "fashion_pooled.onnx"), str(SAMPLES / "calib")
    some = ["--limit", "80", "--device", "cpu", "--score", "margin", "--evaluation-steps", "1"]
    some += ["--mask-ratio", "0.05"]
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "h.onnx")
        _, printed, _ = command("harden", model, "--data", data, *some, "-o", out, "--json")
    assert json.loads(printed)["chance"] == 0.1


def a_verdict_rule() -> None:
    """Gains that a random mask has, too, have another verdict; other gains the one they had."""
    from cloakify.evaluation import OverRandom, accuracy_figure, gain_figure, judge

    right = np.ones(100, np.bool_)
    gain = gain_figure(right, np.arange(100) < 50)
    same, more = gain_figure(right, right), gain_figure(right, np.arange(100) < 60)
    assert accuracy_figure(right).value == 1
    verdict = judge(gain, over_random=OverRandom(same, same))
    assert verdict.code == "no-better-than-random" and "as much" in verdict.sentence
    assert judge(gain, over_random=OverRandom(more, more)).code == "hardened"


def a_head_shape() -> None:
    """The product's old name is found, masked, and what it computes is read off it."""
    from cloakify.graph.analysis.head_search import find_head
    from cloakify.graph.edit.mask import insert_mask
    from cloakify.masking.linear_head import read_head

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 3)).astype(np.float32)
    model = model_of(
        """<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>
        f (float[N, 5] x) => (float[N, 3] logits)
        { h = Relu (x) logits = com.microsoft.TransposeMatMul <alpha = 0.5> (h, w) }""",
        w=weight,
    )
    head = find_head(model).head
    assert (head.features, head.num_features, head.num_classes) == ("h", 5, 3)
    linear = read_head(model, head, 2)
    np.testing.assert_allclose(linear.weight, weight / 2, rtol=1e-5)
    masked = insert_mask(model, head, np.array([1, 0, 1, 1, 1]), {})
    assert [node.op_type for node in masked.graph.node] == ["Relu", "Mul", "TransposeMatMul"]


def an_option() -> None:
    """It is in the help, its bounds are checked, and it does what it says."""
    from cloakify import HardenSetting
    from cloakify.errors import UsageError

    assert "--require-samples N" in command("harden", "--help")[1]
    try:
        HardenSetting(require_samples=0)
    except UsageError as error:
        assert "--require-samples" in str(error)
    else:
        raise AssertionError("a number below 1 was taken")
    model, data = str(SAMPLES / "fashion_pooled.onnx"), str(SAMPLES / "calib")
    some = ["--limit", "120", "--device", "cpu", "--score", "margin", "--evaluation-steps", "1"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "h.onnx"
        code, _, errors = command(
            "harden", model, "--data", data, *some, "--require-samples", "500", "-o", str(out)
        )
        assert code == 1 and "500 were required" in errors, errors
        assert not out.exists()


def an_exit_code() -> None:
    """A verb that raises the error ends with its code and one line."""
    import click

    from cloakify.cli.main import cli
    from cloakify.errors import LicenceError  # type: ignore[attr-defined]

    @cli.command()
    def refuse() -> None:
        raise LicenceError("m.onnx: says that it may not be changed")

    assert isinstance(refuse, click.Command)
    assert command("refuse") == (7, "", "Error: m.onnx: says that it may not be changed\n")
    assert "7 the model may not be changed" in command("--help")[1]


def the_batch_size_rule() -> None:
    """Rows take the new size, images the old one."""
    from cloakify.runtime import Device, fitting_batch_size

    assert fitting_batch_size((10,), Device("cpu")) == 64
    assert fitting_batch_size((1, 28, 28), Device("cpu")) == 32


CHECKS = {
    "An attack": an_attack,
    "An operator's gradient": an_operators_gradient,
    "A data format": a_data_format,
    "A mask score": a_mask_score,
    "A report field": a_report_field,
    "A verdict rule": a_verdict_rule,
    "An option": an_option,
    "A head shape": a_head_shape,
    "An exit code": an_exit_code,
    "The batch-size rule": the_batch_size_rule,
}


def main() -> None:
    failed = {}
    for name in sys.argv[1:]:
        try:
            CHECKS[name]()
        except Exception:  # noqa: BLE001  (whatever it is, it is reported)
            failed[name] = traceback.format_exc()
    json.dump(failed, sys.stdout)


if __name__ == "__main__":
    main()
