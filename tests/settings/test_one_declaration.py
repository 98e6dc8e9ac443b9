"""An option that is declared in one place is there in every form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import click
import pytest

from cloakify.cli.options import MODEL, declared_options, take
from cloakify.cli.verb import Verb
from cloakify.errors import UsageError
from cloakify.settings import AttackSetting, RunOptions
from cloakify.settings.command_line import command_line
from cloakify.settings.config_file import read_config, write_config
from cloakify.settings.files import DataFile
from cloakify.settings.option import Option
from cloakify.settings.option_types import Count
from cloakify.settings.verbs import VERBS


class Longer(RunOptions, frozen=True, kw_only=True):
    """The declaration, and with it nothing else."""

    patience: Annotated[Count, Option("Wait for this many seconds before giving up.")] = 3


@dataclass(frozen=True, init=False)
class WithPatience(AttackSetting):
    run: Longer = Longer()  # noqa: RUF009


@pytest.fixture(autouse=True)
def verbs() -> Iterator[None]:
    kinds = tuple(WithPatience if kind is AttackSetting else kind for kind in VERBS["attack"])
    with mock.patch.dict(VERBS, attack=kinds):
        yield


def command(made: list[WithPatience]) -> click.Command:
    @click.command("attack", cls=Verb)
    @click.argument("model", type=MODEL)
    @declared_options("attack")
    def attack(model: Path, **options: Any) -> None:
        made.append(take(WithPatience, options))

    return attack


def called(*words: str) -> WithPatience:
    """Return the settings that a command line makes."""
    made: list[WithPatience] = []
    command(made).main(list(words), standalone_mode=False)
    (setting,) = made
    return setting


def test_from_python() -> None:
    assert WithPatience().run.patience == 3
    assert WithPatience(patience=5).run.patience == 5
    with pytest.raises(UsageError, match="--patience takes a whole number from 1 on, not 0"):
        WithPatience(patience=0)


def test_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["m.onnx", "--data", "d", "-o", "a.npz"]
    assert called(*words).run.patience == 3
    assert called(*words, "--patience", "4").run.patience == 4
    monkeypatch.setenv("CLOAKIFY_PATIENCE", "6")
    assert called(*words).run.patience == 6
    with pytest.raises(click.UsageError, match="--patience takes a whole number from 1 on, not 0"):
        called(*words, "--patience", "0")


def test_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    command([]).main(["--help"], standalone_mode=False)
    text = " ".join(capsys.readouterr().out.split())
    section = text.partition(" Running: ")[2].partition(" Output: ")[0]
    assert "--patience N Wait for this many seconds before giving up. [default: 3]" in section


def test_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cloakify.toml"
    path.write_text(write_config("attack", {"patience": 8}, tmp_path))
    assert "# Wait for this many seconds before giving up." in path.read_text()
    assert read_config(path, "attack") == {"patience": 8}
    with pytest.raises(UsageError, match="no option patiance; did you mean 'patience'"):
        path.write_text("patiance = 8")
        read_config(path, "attack")


def test_in_the_command_that_repeats_a_run() -> None:
    setting = WithPatience(patience=9)
    line = command_line("attack", ["m.onnx"], setting, data="d", output="a.npz")
    assert line.endswith("--patience 9")
    assert called(*line.split()[2:]) == setting


def test_only_the_options_that_are_asked_for_are_taken() -> None:
    options = {"data": Path("d"), "patience": 3}
    assert take(DataFile, options) == DataFile(data=Path("d")) and options == {"patience": 3}
