"""Runs on samples that lie elsewhere end as those on the same samples here, and leave nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

import cloakify
from cloakify.cli.main import run
from cloakify.errors import DataError, ModelError, UsageError
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.recipe import Recipe
from cloakify.experiment.scope import all_let_go, brought_here
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.settings.config_file import read_config
from tests.support.fragile import EPS, write_fragile

SETTING = {"eps": EPS, "device": "cpu"}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A store that holds the data; a folder of its own for what is temporary."""
    monkeypatch.setattr(tempfile, "tempdir", str(new(tmp_path, "tmp")))
    system = fsspec.filesystem("memory")
    _, data = write_fragile(new(tmp_path, "in"), 80)
    system.pipe_file("/bucket/data.npz", data.read_bytes())
    yield tmp_path
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    assert not list((tmp_path / "tmp").iterdir())


def new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


URL = "memory://bucket/data.npz"


def test_samples_are_those_of_the_file(store: Path) -> None:
    model, data = store / "in" / "fragile.onnx", store / "in" / "data.npz"
    setting = AttackSetting(attack="fgsm", **SETTING)
    cloakify.attack(model, data, store / "here.npz", setting)
    result = cloakify.attack(model, URL, store / "there.npz", setting)
    assert (store / "here.npz").read_bytes() == (store / "there.npz").read_bytes()
    assert [note for note in result.notes if note.startswith(f"{URL} was fetched (")]


def test_reports_name_the_url(store: Path) -> None:
    model = store / "in" / "fragile.onnx"
    setting = HardenSetting(effort="quick", write_anyway=True, **SETTING)
    hardened = cloakify.harden(model, URL, store / "h.onnx", setting).report
    assert hardened.data.path == URL and f"--data {URL}" in hardened.command
    setting = EvaluateSetting(effort="quick", **SETTING)
    judged = cloakify.evaluate(model, URL, setting, attacked=URL).report
    assert judged.data.path == URL and judged.copies.path == URL


def test_the_command_takes_urls(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(store / "in" / "fragile.onnx")
    options = ["--eps", "0.06", "--device", "cpu", "--attack", "fgsm", "-o", str(store / "a.npz")]
    assert run(["attack", model, "--data", URL, *options]) == 0
    assert f"{URL} was fetched" in capsys.readouterr().err
    assert run(["attack", model, "--data", "memory://bucket/x.npz", *options]) == 4
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "memory://bucket/x.npz is not there" in error


def test_messages_name_the_url(store: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/bad.npz", b"PK no archive")
    model = store / "in" / "fragile.onnx"
    with pytest.raises(DataError, match=r"^memory://bucket/bad\.npz"):
        cloakify.attack(model, "memory://bucket/bad.npz", store / "a.npz", AttackSetting(**SETTING))


def test_a_worker_without_the_copy_fetches_it(store: Path) -> None:
    from cloakify.experiment.experiment import open_experiment
    from cloakify.experiment.subject import Subject

    classifier = open_classifier(store / "in" / "fragile.onnx", AttackSetting().model)
    setting = AttackSetting(**SETTING)
    for url in (URL, "memory://bucket/{data,data}.npz"):
        with all_let_go():
            experiment = open_experiment(classifier, url, setting, lambda _: np.empty(0, np.int64))
            recipe = Recipe.of(Subject([experiment]), "cpu")
            # As on a machine that does not see the driver's folder.
            place = recipe.data.parent
            place.rename(place.with_name("elsewhere"))
            subject = recipe.open({}, 1)
            assert subject.first.dataset.sha256 == experiment.dataset.sha256
            place.with_name("elsewhere").rename(place)


def test_files_by_a_url_are_opened_where_they_lie(store: Path) -> None:
    data = store / "in" / "a b.npz"
    (store / "in" / "data.npz").rename(data)
    with all_let_go():
        assert brought_here(f"file://{str(data).replace(' ', '%20')}") == data
    setting, model = AttackSetting(**SETTING), store / "in" / "fragile.onnx"
    with pytest.raises(UsageError, match="is read, too"):
        cloakify.attack(model, data.as_uri(), data, setting)


@pytest.mark.parametrize("option", ["labels", "classes"])
def test_only_samples_are_fetched(store: Path, option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option} takes a file on this machine"):
        AttackSetting(**{option: "https://host/x.csv"})
    with pytest.raises(ModelError, match="looks like a URL"):
        cloakify.attack("https://host/m.onnx", URL, store / "a.npz", AttackSetting(**SETTING))


def test_options_beside_a_model_fetch_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Beside a model in the folder that the command is called in.
    monkeypatch.chdir(store / "in")
    Path("cloakify.toml").write_text(f"data = {json.dumps(URL)}\n")
    with pytest.raises(UsageError, match="may name nothing to fetch"):
        read_config(Path("cloakify.toml"), "attack", trusted=False)
    read = read_config(Path("cloakify.toml"), "attack")
    with all_let_go():
        here = brought_here(read["data"])
        assert isinstance(here, Path) and here.is_file()
    for named in ("memory:/bucket/data.npz", "./memory://bucket/data.npz"):
        Path("cloakify.toml").write_text(f"data = {json.dumps(named)}\n")
        with pytest.raises(UsageError, match="which is no file"):
            read_config(Path("cloakify.toml"), "attack", trusted=False)
