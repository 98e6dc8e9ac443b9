"""Bad input ends in one line that says what is wrong, and in the exit code of its kind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cloakify.cli.main import run


def harden(samples: Path, *more: str) -> list[str]:
    case = ["harden", str(samples / "fashion_keras.onnx"), "--data", str(samples / "calib")]
    return [*case, "--device", "cpu", "--mask-ratio", "0.05", *more]


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
    *(
        (["harden", "{samples}/fashion_keras.onnx", "--data", "{samples}/calib", *more], 2, text)
        for more, text in (
            (["--seed", "-1"], "--seed"),
            (["--emit", "fold"], "--emit is for --method tuned"),
            (["--score", "best"], "--score takes auto, deepcloak, margin, greedy or relaxed"),
            (["--mask-ratio", "5"], "--mask-ratio takes a fraction between 0 and 1"),
            (["--gates", "position"], "--gates is for --method tuned"),
            (["--steps-tune", "5"], "--tune-steps is for --method tuned"),
            (["--method", "tuned", "--score", "margin"], "--score is for --method deepcloak"),
            (["--method", "tuned", "--mask-ratio", "0.1"], "--mask-ratio is for"),
            (["-o", "{tmp}/no/h.onnx"], "there is no folder"),
            (["--report", "{tmp}/no/r.json"], "there is no folder"),
            (["-o", "/dev/null"], "no regular file"),
            (["-o", "{samples}/fashion_keras.onnx"], "is read, too"),
            (["-o", "{tmp}/one.json", "--report", "{tmp}/one.json"], "two outputs"),
            (["-o", "{tmp}/a.npz", "--tune-state", "{tmp}/a.npz", "--method", "tuned"], "two out"),
        )
    ),
    *(
        (["attack", "{samples}/fashion_keras.onnx", "--data", "{samples}/test.npz", *more], 2, text)
        for more, text in (
            (["-o", "{samples}/test.npz"], "is read, too"),
            (["-o", "{tmp}/no/adv.npz"], "there is no folder"),
        )
    ),
    (["harden", "{samples}/fashion_keras.onnx", "--data", ""], 2, "--data takes a path, not ''"),
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--eps", "8"], "8 is more than the whole range of the data, 1"),
        (["--eps", "8 / 0"], "takes a decimal or a fraction above 0"),
        (["--require-gain", "5"], "takes a fraction (0.05 for five points), not 5"),
        (["--max-accuracy-drop", "2"], "takes a fraction"),
        (["--max-accuracy-drop", "0.02"], "which --mask-ratio gives"),
        (["--norm", "l1"], "(cloakify harden --help tells more)"),
        (["--limit", "0"], "--limit takes a whole number from 1 on, not 0"),
        (["--box", "0.2,1"], "leaves out pixels"),
    ],
)
def test_options_that_make_no_sense(
    samples: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run(harden(samples, *options)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("Error: ") and said in line


def test_nothing_but_what_can_be_read(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who lacks the right gets the exit code for models, or for data."""
    model, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    for path, source in ((model, "fashion_keras.onnx"), (data, "test.npz")):
        path.write_bytes((samples / source).read_bytes())
    for path, code in ((model, 3), (data, 4)):
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
        arguments = ["attack", str(model), "--data", str(data), "-o", str(tmp_path / "a.npz")]
        assert run(arguments) == code
        path.chmod(0o600)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", None])
def test_a_broken_state_of_a_tuning(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes | None
) -> None:
    state = tmp_path / "s.npz"
    np.savez(state, name=np.arange(1000))
    content = bytearray(state.read_bytes())
    content[300] ^= 255
    state.write_bytes(bytes(content) if damage is None else damage)
    arguments = ["harden", str(samples / "fashion_keras.onnx"), "--data", str(samples / "calib")]
    arguments += ["--limit", "80", "--method", "tuned", "--tune-state", str(state)]
    assert run([*arguments, "-o", str(tmp_path / "h.onnx")]) == 4
    assert "holds no state of a tuning run" in capsys.readouterr().err
