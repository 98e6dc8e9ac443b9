"""Where options come from: command line, environment, files; and the command that repeats them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.cli.main import cli, run
from cloakify.errors import UsageError
from cloakify.settings import AttackSetting, EngineOptions, EvaluateSetting, HardenSetting
from cloakify.settings.command_line import command_line
from cloakify.settings.settings import Settings
from cloakify.settings.verbs import VERBS, options_of
from tests.support.option_values import PATHS, option_values

SETTINGS: dict[str, type[Settings]] = {
    "harden": HardenSetting,
    "evaluate": EvaluateSetting,
    "attack": AttackSetting,
}


class Asked(Exception):
    """Raised in place of a verb's work: what it was called with."""


def asked(verb: str, *words: str) -> tuple[Any, ...]:
    """Return the arguments with which a command line calls the verb."""

    def called(*arguments: Any) -> None:
        raise Asked(*arguments)

    with mock.patch(f"cloakify.workflows.{verb}.{verb}", called), pytest.raises(Asked) as caught:
        cli.main([verb, *words], standalone_mode=False)
    return caught.value.args


def setting(verb: str, *words: str) -> Any:
    (found,) = (each for each in asked(verb, *words) if isinstance(each, Settings))
    return found


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A path in a folder of its own; nothing is there."""
    return str(tmp_path / "m.onnx")


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [model, "--data", "d"]
    assert setting("harden", *words).run.seed == 0
    (tmp_path / "cloakify.toml").write_text("seed = 1\nrounds = 3\nreplace-mask = true")
    found = setting("harden", *words)
    assert (found.run.seed, found.masking.rounds, found.masking.replace) == (1, 3, True)
    monkeypatch.setenv("CLOAKIFY_SEED", "2")
    assert setting("harden", *words).run.seed == 2
    monkeypatch.setenv("CLOAKIFY_HARDEN_SEED", "3")
    assert setting("harden", *words).run.seed == 3
    assert setting("evaluate", *words).run.seed == 2
    found = setting("harden", *words, "--seed", "4", "--no-replace-mask")
    assert (found.run.seed, found.masking.rounds, found.masking.replace) == (4, 3, False)


def test_a_named_file_takes_the_place_of_the_one_beside_the_model(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cloakify.toml").write_text("seed = 1\nrounds = 3")
    other = tmp_path / "other.toml"
    other.write_text("seed = 7\ndata = 'calib'")
    found = setting("harden", model, "--config", str(other))
    assert (found.run.seed, found.masking.rounds) == (7, None)
    assert asked("harden", model, "--config", str(other))[1] == tmp_path / "calib"
    assert setting("harden", model, "--data", "d", "--config", "none").run.seed == 0
    monkeypatch.setenv("CLOAKIFY_CONFIG", str(other))
    assert setting("attack", model, "-o", "a.npz").run.seed == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [("epz = 1", "did you mean 'eps'"), ("seed = -1", "--seed takes a whole number from 0 on")],
)
def test_a_wrong_file_is_one_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "cloakify.toml"
    path.write_text(text)
    assert run(["harden", model, "--data", "d"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Error: {path}: ") and said in line
    assert run(["harden", model, "--help"]) == 0
    assert run(["harden", model, "--data", "d", "--config", str(tmp_path / "no.toml")]) == 2
    assert "can't be read" in capsys.readouterr().err


def test_a_file_that_came_with_a_model_hides_not_that_it_is_read(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cloakify.toml"
    path.write_text("quiet = true\neps = 1e-9")
    asked("harden", model, "--data", "d")
    assert f"Options from {path}" in capsys.readouterr().err
    asked("harden", model, "--data", "d", "--quiet")
    assert capsys.readouterr().err == ""


def test_a_wrong_variable_is_named(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOAKIFY_EPS", "x")
    assert run(["harden", model, "--data", "d"]) == 2
    assert "not 'x', as the environment's CLOAKIFY_EPS says" in capsys.readouterr().err
    monkeypatch.delenv("CLOAKIFY_EPS")
    monkeypatch.setenv("CLOAKIFY_EPZ", "1")
    asked("harden", model, "--data", "d")
    assert "CLOAKIFY_EPZ is no option; did you mean 'CLOAKIFY_EPS'" in capsys.readouterr().err


def test_a_first_file_holds_what_was_given(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOAKIFY_NORM", "l2")
    words = [model, "--eps", "1/20", "--method", "tuned", "--init-config"]
    assert run(["harden", *words]) == 0
    path = tmp_path / "cloakify.toml"
    assert str(path) in capsys.readouterr().err
    monkeypatch.delenv("CLOAKIFY_NORM")
    found = setting("harden", model, "--data", "d")
    assert found == HardenSetting(eps=0.05, method="tuned", norm="l2")
    before = path.read_bytes()
    assert run(["harden", *words]) == 2
    assert "exists already" in capsys.readouterr().err and path.read_bytes() == before
    assert run(["harden", *words, "--config", str(tmp_path / "b.toml"), "--eps", "x"]) == 2
    assert not (tmp_path / "b.toml").exists()


def test_a_first_file_needs_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in ("harden", "evaluate", "attack", "inspect", "verify"):
        name = f"{verb}.toml"
        assert run([verb, "--init-config", "--config", name]) == 0
        assert (tmp_path / name).is_file()
    assert run(["harden", "--init-config"]) == 0
    assert (tmp_path / "cloakify.toml").is_file()


@pytest.mark.parametrize("name", ["--", "--step-size", "-o", "--0", "-"])
def test_files_may_be_called_as_options_are(name: str) -> None:
    wanted = AttackSetting()
    line = command_line("attack", [Path(name)], wanted, data=Path(name), output=Path(name))
    _, verb, *words = shlex.split(line)
    arguments = asked(verb, *words)
    assert wanted in arguments and arguments.count(Path(name)) == 3


@given(data=st.data(), verb=st.sampled_from(sorted(SETTINGS)), path=PATHS)
def test_the_command_repeats_the_settings(data: st.DataObject, verb: str, path: Path) -> None:
    kind = SETTINGS[verb]
    chosen = {name: option_values(declared) for name, (_, declared) in kind.options().items()}
    try:
        wanted = kind(**data.draw(st.fixed_dictionaries({}, optional=chosen)))
    except UsageError:
        # Options of both methods contradict each other.
        return
    # No model is taken for one of the images that a shell has written a pattern out as.
    model, samples = Path("m") / f"{path}.onnx", Path("d") / path
    output = {"output": path} if verb == "attack" else {}
    line = command_line(verb, [model], wanted, data=samples, **output)
    name, *words = shlex.split(line)
    assert name == "cloakify" and words[0] == verb
    arguments = asked(verb, *words[1:])
    # Who did the work says nothing of what came out.
    kept = wanted.replace(EngineOptions())
    assert [each for each in arguments if isinstance(each, Settings)] == [kept]
    assert samples in arguments


def test_the_command_names_files_and_leaves_defaults_out(tmp_path: Path) -> None:
    model = tmp_path / "a model.onnx"
    setting = HardenSetting(eps=4 / 255, method="tuned", binary=True, box=None)
    files = {"data": "calib/", "attacked": None, "report": ("r.json", Path("r.html"))}
    wanted = f"cloakify harden '{model}' --data calib --report r.json --report r.html"
    wanted += " --box none --eps 4/255 --method tuned --binary"
    assert command_line("harden", [model], setting, **files) == wanted
    (tmp_path / "cloakify.toml").write_text("")
    assert command_line("harden", [model], setting, **files) == f"{wanted} --config none"


@pytest.mark.parametrize("verb", VERBS)
def test_help_lists_every_option_under_a_heading(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb, "--help"]) == 0
    text = capsys.readouterr().out
    for declared, _ in options_of(verb):
        assert re.search(rf"{declared.flag}[ ,\n]", text)
        assert f"\n{declared.group.heading}:\n" in text
    assert "NODEFAULT" not in text and "--no-" not in text


@pytest.mark.parametrize("by", ["option", "variable"])
def test_no_file_is_written_by_the_name_of_none(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if by == "variable":
        monkeypatch.setenv("CLOAKIFY_CONFIG", "none")
    assert run(["harden", "--init-config", *["--config", "none"] * (by == "option")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--init-config writes a file, and --config none names none" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["harden", "evaluate", "attack"])
@pytest.mark.parametrize(
    "name", ["b.JPG", "1.npz", "002.tar", "2.zip", "t10k-images-idx3-ubyte.gz", "b.csv.xz"]
)
def test_a_pattern_that_a_shell_wrote_out_is_told_of_as_such(
    verb: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["-o", "a.npz"] if verb == "attack" else []
    for words in (["m.onnx", "--data", "a.jpg", name], ["m.onnx", name, "--data", "a.jpg"]):
        assert run([verb, *words, "z.jpg", *output]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"--data takes one path, and {name} is another: keep a pattern in quotes" in line
