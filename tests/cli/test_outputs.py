"""What is written: never in the place of what is read, whole or not at all, also on a full disk."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from cloakify.cli.main import run
from cloakify.exit_codes import ExitCode
from tests.support.classifiers import mlp_classifier
from tests.support.fragile import write_fragile

QUICK = ["--device", "cpu", "--eps", "0.06", "--quiet"]
HARDEN = [*QUICK, "--mask-ratio", "0.1", "--score", "deepcloak", "--evaluation-steps", "2"]
EVALUATE = ["evaluate", "--attack", "fgsm", "--queries", "2"]
TUNE = [*QUICK, "--method", "tuned", "--tune-steps", "20", "--max-accuracy-drop", "0.2"]
TUNE += ["--evaluation-steps", "2"]


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, Path]:
    """A model whose weights lie in a sidecar that is called as a report might be, and data."""
    folder = tmp_path / "in"
    folder.mkdir()
    model, data = folder / "m.onnx", folder / "x.npz"
    message = mlp_classifier(0, 8, 3)
    for tensor in message.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save_model(message, model, save_as_external_data=True, location="w.json", size_threshold=0)
    x = np.random.default_rng(0).random((60, 8), np.float32)
    np.savez(data, x=x, y=np.arange(60) % 3)
    return model, data


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(code: int, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run the command, which must fail with that code and one line; return the line."""
    assert run([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("Error: ")
    return line


def test_a_report_in_the_place_of_a_sidecar(
    case: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = case
    sidecar = model.parent / "w.json"
    before = content(tmp_path)
    given = ["--data", data, "--labels", "model", "--report", sidecar]
    for verb in (["harden", model, *HARDEN], ["evaluate", model, *QUICK]):
        assert "is read, too" in refused(2, capsys, *verb, *given)
    assert content(tmp_path) == before


def test_a_report_in_the_place_of_a_list_of_classes(
    case: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = case
    names = tmp_path / "names.md"
    names.write_text("a\nb\nc\n")
    given = ["--data", data, "--classes", names, "--report", names]
    assert "is read, too" in refused(2, capsys, "evaluate", model, *QUICK, *given)


def test_a_report_beside_a_model_that_is_named_by_its_folder(
    case: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = case
    given = ["--data", str(data), "--labels", "model", *QUICK]
    report = model.parent / "r.json"
    verb = [*EVALUATE, str(model.parent), *given, "--report", str(report)]
    assert run(verb) == 0 and report.is_file()


def test_an_image_of_the_data_as_output(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "calib"
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        Image.new("L", (28, 28)).save(data / name / "0.png")
    before = content(tmp_path)
    model = samples / "fashion_keras.onnx"
    for output in (data / "a" / "0.png", data / "new.onnx", data / "a" / "h.onnx"):
        verb = ["harden", model, "--data", data, "-o", output]
        assert "is read" in refused(2, capsys, *verb)
    for option in ("--report", "--tune-state"):
        verb = ["harden", model, "--data", data, "--method", "tuned", option, data / "r.html"]
        assert "is read" in refused(2, capsys, *verb)
    verb = ["attack", model, "--data", data, "-o", data / "b" / "adv.npz"]
    assert "is read" in refused(2, capsys, *verb)
    assert content(tmp_path) == before


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let the process write no file further than that; what is beyond fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 300])
def test_a_disk_that_is_full_of_old_files(
    case: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    """At whatever byte there is no more room, what was there before is there still."""
    model, data = case
    out = tmp_path / "out"
    out.mkdir()
    for name in ("h.onnx", "adv.npz", "r.html"):
        (out / name).write_bytes(b"old")
    before = content(tmp_path)
    given = ["--data", data, "--labels", "model"]
    for verb in (
        ["harden", model, *HARDEN, *given, "-o", out / "h.onnx"],
        ["attack", model, *QUICK, *given, "--steps", "2", "-o", out / "adv.npz"],
        [*EVALUATE, model, *QUICK, *given, "--report", out / "r.html"],
    ):
        with files_up_to(size):
            # What was measured is printed before a report is written.
            line = refused(1, capsys, *verb)
        assert "cannot be written (File too large)" in line
        assert content(tmp_path) == before


def test_a_disk_too_full_for_the_state_of_a_tuning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = write_fragile(tmp_path)
    before = content(tmp_path)
    verb = ["harden", model, "--data", data, *TUNE, "--tune-state", tmp_path / "s.npz"]
    with files_up_to(500):
        assert "s.npz: cannot be written" in refused(1, capsys, *verb)
    assert content(tmp_path) == before


@pytest.mark.parametrize("verb", ["harden", "attack", "evaluate"])
def test_a_folder_that_may_only_be_read(
    case: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    """Said before the long work; the superuser may write anywhere, and is told as if not."""
    model, data = case
    out = tmp_path / "out"
    out.mkdir()
    access = os.access

    def may(path: str | Path, mode: int) -> bool:
        return access(path, mode) and bool(os.stat(path).st_mode & stat.S_IWUSR)

    monkeypatch.setattr(os, "access", may)
    out.chmod(0o500)
    given = ["--data", data, "--labels", "model", *QUICK]
    option = "--report" if verb == "evaluate" else "-o"
    name = {"harden": "h.onnx", "attack": "a.npz", "evaluate": "r.md"}[verb]
    line = refused(1, capsys, verb, model, *given, option, out / name)
    out.chmod(0o700)
    assert "can't be written to" in line and not list(out.iterdir())


@pytest.mark.parametrize("given", [["--output=-x.npz"], ["--output", "-x.npz"], ["-o", "-x.npz"]])
def test_names_that_look_like_options_are_values(tmp_path, monkeypatch, capsys, given):
    monkeypatch.chdir(tmp_path)
    assert run(["attack", "none.onnx", "--data", "-d.npz", *given]) == ExitCode.MODEL
    assert "none.onnx: can't be read" in capsys.readouterr().err
