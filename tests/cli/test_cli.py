"""The command line: exit codes, one line an error, JSON and nothing else."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from cloakify.cli.main import run
from tests.support.classifiers import mlp_classifier
from tests.support.scarce import allow

QUICK = ["--limit", "80", "--device", "cpu", "--eps", "2/255", "--mask-ratio", "0.05"]
QUICK += ["--score", "deepcloak", "--evaluation-steps", "3"]


def harden(samples: Path, *more: str, model: str = "fashion_keras.onnx") -> list[str]:
    return ["harden", str(samples / model), "--data", str(samples / "calib"), *QUICK, *more]


def test_harden_json_and_reports(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "h.onnx"
    reports = [tmp_path / f"r.{kind}" for kind in ("json", "html", "md")]
    arguments = harden(samples, "-o", str(output), "--json")
    for report in reports:
        arguments += ["--report", str(report)]
    assert run(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["output"]["path"] == str(output) and output.is_file()
    assert document["attack"]["eps"] == pytest.approx(2 / 255)
    assert json.loads(reports[0].read_text()) == document
    assert all(report.stat().st_size > 500 for report in reports)
    assert all("--mask-ratio 0.05" in report.read_text() for report in reports)
    repeated = tmp_path / "again.json"
    content = output.read_bytes()
    words = shlex.split(document["command"])
    assert words.pop(0) == "cloakify" and run([*words, "--report", str(repeated)]) == 0
    again = json.loads(repeated.read_text())
    assert output.read_bytes() == content
    assert {**again, "timing": None} == {**document, "timing": None}
    capsys.readouterr()
    assert run(["verify", str(output), "--against", str(samples / "fashion_keras.onnx")]) == 0
    assert run(["verify", str(output), "--against", str(samples / "fashion_wide.onnx")]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "made from another file" in said[-2] and "no linear layer is called" in said[-1]


def test_default_output_and_table(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes((samples / "fashion_keras.onnx").read_bytes())
    arguments = ["harden", str(model), "--data", str(samples / "calib"), *QUICK]
    assert run(arguments) == 0
    printed = capsys.readouterr()
    assert (tmp_path / "net.hardened.onnx").is_file()
    assert "adaptive" in printed.out and "Masked 6 of 128 features" in printed.out
    assert "0 0_t-shirt" in printed.err


def test_missed_gate(samples: Path, tmp_path: Path) -> None:
    output, report = tmp_path / "h.onnx", tmp_path / "r.json"
    arguments = harden(samples, "-o", str(output), "--require-gain", "0.9", "--report", str(report))
    assert run(arguments) == 1
    assert not output.exists()
    assert json.loads(report.read_text())["output"] is None


def test_a_mask_that_was_chosen_and_does_not_harden(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is nothing to ship; one whose size the user chose is written, and said to be none."""
    output, report = tmp_path / "h.onnx", tmp_path / "r.json"
    model, data = samples / "fashion_keras.onnx", samples / "calib"
    arguments = ["harden", str(model), "--data", str(data), "-o", str(output), "--device", "cpu"]
    arguments += [
        "--limit",
        "80",
        "--eps",
        "2/255",
        "--score",
        "deepcloak",
        "--report",
        str(report),
    ]
    arguments += ["--evaluation-steps", "3"]
    assert run(arguments) == 1
    assert not output.exists()
    document = json.loads(report.read_text())
    assert document["output"] is None and document["verdict"]["code"] == "no-gain"
    printed = capsys.readouterr()
    assert "Not hardened" in printed.out and "--write-anyway writes it" in printed.err
    for wish in (["--write-anyway"], ["--mask-ratio", "0.05"]):
        assert run([*arguments, *wish]) == 0
        assert json.loads(report.read_text())["verdict"]["code"] == "no-gain"
        output.unlink()


def test_attack_writes_samples(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "adv.npz"
    model, data = samples / "fashion_keras.onnx", samples / "test.npz"
    arguments = ["attack", str(model), "--data", str(data), "-o", str(output), "--limit", "40"]
    assert run([*arguments, "--eps", "8/255", "--steps", "5", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["accuracy"]
    assert figures["attacked"]["value"] < figures["clean"]["value"]
    with np.load(output, allow_pickle=False) as file, np.load(data) as clean:
        assert file["x"].shape == (40, 28, 28, 1) and file["x"].dtype == np.float32
        original = np.moveaxis(clean["x"][file["index"]].astype(np.float64), 1, -1)
        assert np.abs(file["x"] - original).max() <= 8 / 255 + 1e-6
        assert np.array_equal(file["y"], clean["y"][file["index"]])


def test_inspect(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(samples / "fashion_keras.onnx"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["head"]["op_type"] == "MatMul" and found["head"]["num_features"] == 128
    assert found["input"]["channel_axis"] == 3 and found["mask"] is None
    assert found["alternatives"][0]["num_features"] == 576
    # Layers that are no head put out channels.
    assert "num_classes" not in found["alternatives"][0] and found["alternatives"][0]["channels"]
    assert run(["inspect", str(samples / "fashion_keras.onnx")]) == 0
    told = capsys.readouterr().out
    assert "NHWC" in told and "128 features → 10 classes" in told
    assert re.search("not taken .* features → [0-9]+ channels", told)


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert run(["devices"]) == 0
    assert "cpu" in capsys.readouterr().out


def test_interrupted(
    samples: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cloakify.hardening.mask_method.calibrate", interrupt)
    assert run(harden(samples)) == 130
    assert not list(samples.glob("*.hardened.onnx"))


def test_figures_are_printed_before_a_report_is_written(
    samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cloakify.errors import CloakifyError

    def full(*_: object) -> None:
        raise CloakifyError("r.json: cannot be written (No space left on device)")

    monkeypatch.setattr("cloakify.report.write_report", full)
    arguments = ["evaluate", str(samples / "fashion_keras.onnx"), "--limit", "20", "--steps", "2"]
    arguments += ["--data", str(samples / "test.npz"), "--report", str(tmp_path / "r.json")]
    assert run([*arguments, "--attack", "apgd", "--queries", "5"]) == 1
    printed = capsys.readouterr()
    assert "clean" in printed.out and "No space left" in printed.err


SINGLE = """
<ir_version: 8, opset_import: ["" : 17]>
f (float[N, 4] x) => (float[N, 1] y) <float[4, 1] w = {1, 2, -1, -2}>
{ z = MatMul (x, w)  y = Sigmoid (z) }"""

BROKEN = """
<ir_version: 8, opset_import: ["" : 17]>
f (float[N, 4] x) => (float[N, 2] y) <float[4, 2] w = {1, 2, -1, -2, 1, 1, 1, 1}, float zero = {0}>
{ n = Div (zero, zero)  s = Add (x, n)  y = MatMul (s, w) }"""


def small_case(folder: Path, text: str) -> list[str]:
    model, data = folder / "m.onnx", folder / "d.npz"
    onnx.save(onnx.parser.parse_model(text), model)
    x = np.random.default_rng(0).random((40, 4), np.float32)
    np.savez(data, x=x, y=np.arange(40) % 2)
    return [str(model), "--data", str(data)]


def test_a_single_logit_is_taken_by_every_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = [*small_case(tmp_path, SINGLE), "--labels", "model", "--threshold", "0.7"]
    assert run(["attack", *case, "--quiet", "-o", str(tmp_path / "a.npz")]) == 0
    assert "accuracy, clean     100.0" in capsys.readouterr().out
    assert run(["inspect", case[0], "--threshold", "0.7"]) == 0
    assert "by a single logit (Sigmoid 'y'), class 1 from a prob" in capsys.readouterr().out
    assert run(["evaluate", *case, "--task", "single"]) == 2
    assert "--threshold is for a single logit or labels" in capsys.readouterr().err
    assert run(["evaluate", *case[:-2], "--task", "single"]) == 2
    assert "has one logit, which is binary" in capsys.readouterr().err


def test_logits_that_are_no_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.npz"
    assert run(["attack", *small_case(tmp_path, BROKEN), "-o", str(output)]) == 3
    assert "no numbers (NaN) on 40 of 40" in capsys.readouterr().err
    assert not output.exists()


def test_more_samples_in_a_batch_than_there_are(tmp_path: Path) -> None:
    text = (
        SINGLE.replace("[4, 1]", "[4, 2]")
        .replace("N, 1", "N, 2")
        .replace("{1, 2, -1, -2}", "{1, 2, -1, -2, 1, 1, 2, 1}")
        .replace("Sigmoid", "Softmax")
    )
    case = small_case(tmp_path, text)
    assert run(["attack", *case, "-o", str(tmp_path / "a.npz"), "--batch-size", "1000000000"]) == 0


def test_memory_for_a_few_samples_at_once_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = tmp_path / "m.onnx", tmp_path / "x.npz"
    onnx.save(mlp_classifier(0, 8, 3), model)
    np.savez(data, x=np.random.default_rng(0).random((120, 8), np.float32))
    case = [str(model), "--data", str(data), "--labels", "model", "--batch-size", "32"]
    allow(monkeypatch, 20)
    for verb in (
        ["evaluate", *case, "--attack", "pgd", "--steps", "3", "--queries", "3"],
        ["attack", *case, "--steps", "3", "-o", str(tmp_path / "a.npz")],
        ["harden", *case, "--mask-ratio", "0.1", "--evaluation-steps", "2", "--score", "deepcloak"],
    ):
        assert run(verb) == 0
        said = capsys.readouterr().err
        assert said.count("memory did not suffice for 32 samples at once; the run went on with 16")
    monkeypatch.setattr("cloakify.workflows.attack.attack", raise_memory_error)
    assert run(["attack", *case, "-o", str(tmp_path / "a.npz")]) == 5
    assert capsys.readouterr().err.startswith("Error: memory does not suffice; give fewer samples")


def raise_memory_error(*_: object) -> None:
    raise MemoryError


def test_bytes_hold_no_more_than_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    f (uint8[N, 1, 2, 2] x) => (float[N, 2] y) <float[4, 2] w = {1, 2, -1, -2, 1, 1, 2, 1}>
    { c = Cast <to = 1> (x)  s = Flatten (c)  y = MatMul (s, w) }"""
    model, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    onnx.save(onnx.parser.parse_model(text), model)
    x = np.random.default_rng(0).integers(0, 256, (20, 1, 2, 2)).astype(np.uint8)
    np.savez(data, x=x, y=np.arange(20) % 2)
    case = [str(model), "--data", str(data), "-o", str(tmp_path / "a.npz")]
    assert run(["attack", *case, "--scale", "255", "--mean", "0.5", "--std", "0.1"]) == 2
    assert "from -5 to 2545" in capsys.readouterr().err
    assert run(["attack", *case, "--scale", "255"]) == 0
