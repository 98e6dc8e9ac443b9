"""The command line: exit codes, one line an error, JSON and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cloakify.cli.main import run

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
    assert run(["inspect", str(samples / "fashion_keras.onnx")]) == 0
    assert "NHWC" in capsys.readouterr().out


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["devices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert run(["devices"]) == 0
    assert "cpu" in capsys.readouterr().out


BAD: list[tuple[list[str], int, str]] = [
    (["harden"], 2, "Missing argument"),
    (["frobnicate"], 2, "No such command"),
    (
        ["harden", "{samples}/fashion_keras.onnx", "--data", "{samples}/calib", "--eps", "x"],
        2,
        "--eps",
    ),
    (
        ["harden", "{samples}/fashion_keras.onnx", "--data", "{samples}/calib", "--eps", "0"],
        2,
        "--eps",
    ),
    (
        [
            "harden",
            "{samples}/fashion_keras.onnx",
            "--data",
            "{samples}/calib",
            "--report",
            "r.pdf",
        ],
        2,
        "r.pdf",
    ),
    (
        [
            "harden",
            "{samples}/fashion_keras.onnx",
            "--data",
            "{samples}/calib",
            "--attack",
            "magic",
        ],
        2,
        "magic",
    ),
    (["inspect", "{tmp}/missing.onnx"], 3, "missing.onnx"),
    (["inspect", "{samples}/test.npz"], 3, "not an ONNX model"),
    (["harden", "{samples}/fashion_keras.onnx", "--data", "{tmp}/nothing"], 4, "nothing"),
    (["harden", "{samples}/fashion_keras.onnx", "--data", "{samples}/README.md"], 4, "README.md"),
    (
        ["harden", "{samples}/fashion_keras.onnx", "--data", "{samples}/calib", "--head", "no"],
        3,
        "'no'",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "text"), BAD, ids=lambda value: str(value)[:60])
def test_bad_input_is_one_line(
    samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    filled = [part.format(samples=samples, tmp=tmp_path) for part in arguments]
    assert run(filled) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    *_, last = printed.err.strip().splitlines()
    assert last.startswith("Error: ") and text in last


def test_missing_gpu(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cloakify.runtime import cuda_obstacle

    if cuda_obstacle() is None:
        pytest.skip("this machine has a GPU")
    assert run(harden(samples, "--device", "cuda")) == 5
    assert "--device cpu" in capsys.readouterr().err


def test_interrupted(
    samples: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cloakify.workflows.masked.calibrate", interrupt)
    assert run(harden(samples)) == 130
    assert not list(samples.glob("*.hardened.onnx"))
