"""Whatever names, producers and metadata hold, nothing but text reaches the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cloakify import errors
from cloakify.cli.console import remark_data, say, say_json
from cloakify.cli.main import run
from cloakify.printable import printable
from cloakify.report import report_text
from cloakify.report.html import render_html
from cloakify.report.markdown import render_markdown
from tests.support.hostile_names import WORST, hostile_text, rename_everything, shown_raw
from tests.support.reports import make_evaluate, make_harden

TINY = Path(__file__).parents[1] / "golden" / "tiny.onnx"
ONE_FOLDER = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(st.text())
def test_printable_text_is_one_line_without_controls(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and printable(shown) == shown
    if text.isprintable():
        assert shown == text
    if "\\" not in text:
        assert shown.encode("latin-1", "backslashreplace").decode("unicode_escape") == text


@given(hostile_text)
def test_every_error_is_one_line(text: str) -> None:
    kinds = [errors.CloakifyError, *errors.CloakifyError.__subclasses__()]
    assert len(kinds) > 5
    for kind in kinds:
        error = kind(f"{text}: cannot be read")
        assert str(error).isprintable() and str(error).endswith(": cannot be read")


@ONE_FOLDER
@given(hostile_text)
def test_what_is_said_is_as_many_lines_as_are_said(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    say(text)
    say_json(json.dumps({text: text}))
    remark_data([text], (text, text), quiet=False)
    printed = capsys.readouterr()
    assert not shown_raw(printed.out + printed.err)
    assert [printed.out.count("\n"), printed.err.count("\n")] == [2, 2]
    assert json.loads(printed.out.splitlines()[1]) == {text: text}


@settings(deadline=None, max_examples=25)
@given(hostile_text)
def test_reports_hold_nothing_but_text(text: str) -> None:
    for report in (make_harden(text), make_evaluate(f"a/{text}", f"b/{text}.onnx")):
        for written in (
            report_text(report, None, colour=False),
            report_text(report, 60, colour=False),
            render_html(report),
            render_markdown(report),
        ):
            assert not shown_raw(written)


@ONE_FOLDER
@given(hostile_text)
def test_a_model_is_inspected_verified_and_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(rename_everything(onnx.load(TINY), text).SerializeToString())
    assert run(["inspect", str(model)]) == 0
    assert run(["verify", str(model), "--against", str(model)]) == 1
    assert run(["inspect", str(model), "--head", text]) == 0
    assert run(["inspect", str(model), "--json"]) == 0
    # Never the folder itself, whatever is left of the text without zero bytes.
    data = f"{tmp_path}/gone{text}".replace("\0", "")
    assert run(["harden", str(model), "--data", data]) == 4
    assert run([text, f"--{text}"]) == 2
    printed = capsys.readouterr()
    assert not shown_raw(printed.out + printed.err)


def test_a_whole_run_prints_nothing_but_text(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Model, data, classes and outputs bear the name; ONNX Runtime prints past Python, too."""
    name = WORST.replace("/", "")
    model = tmp_path / f"{name}.onnx"
    renamed = rename_everything(onnx.load(TINY), name)
    # The runtime remarks on it by name.
    unused = onnx.numpy_helper.from_array(np.zeros(3, np.float32), f"unused{name}")
    renamed.graph.initializer.append(unused)
    model.write_bytes(renamed.SerializeToString())
    with np.load(TINY.parents[2] / "sample_models" / "test.npz") as arrays:
        for index, (x, y) in enumerate(zip(arrays["x"][:60], arrays["y"], strict=False)):
            folder = tmp_path / "data" / f"{y}{name}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.uint8(255 * x[0])).save(folder / f"{index}{name}.png", "png")
    quick = ["--data", str(tmp_path / "data"), "--eps", "4/255"]
    hardened = tmp_path / f"{name}.hardened.onnx"
    masked = ["--mask-ratio", "0.05", "--score", "deepcloak", "--evaluation-steps", "1"]
    assert run(["harden", str(model), *quick, *masked]) == 0
    assert run(["verify", str(hardened), "--against", str(model)]) == 0
    printed = capfd.readouterr()
    assert not shown_raw(printed.out + printed.err)
    assert "\nError: forged" not in printed.out + printed.err
