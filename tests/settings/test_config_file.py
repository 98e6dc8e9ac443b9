"""`cloakify.toml`: what is written is read again, and what is wrong is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.errors import UsageError
from cloakify.settings import EngineOptions
from cloakify.settings.config_file import config_beside, read_config, write_config
from cloakify.settings.option import declarations
from cloakify.settings.verbs import VERBS, options_of
from tests.support.option_values import given_options

WITH_FILES = [verb for verb in VERBS if verb != "devices"]


def config(folder: Path, text: str) -> Path:
    path = folder / "cloakify.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("verb", WITH_FILES)
def test_an_empty_file_has_every_option_with_its_default(verb: str, tmp_path: Path) -> None:
    text = write_config(verb, {}, tmp_path)
    assert tomllib.loads(text) == {}
    # Without the marks in front it is what holds anyway.
    filled = re.sub(r"^# ([a-z0-9-]+ = [^ ])", r"\1", text, flags=re.MULTILINE)
    found = read_config(config(tmp_path, filled), verb)
    options = {declared.name: default for declared, default in options_of(verb)}
    assert found == {name: options[name] for name in found}
    told = set(re.findall(r"^(?:# )?([a-z0-9-]+) =", text, flags=re.MULTILINE))
    hidden = {"config", "init-config", "trust"}
    hidden |= {declared.name.replace("_", "-") for declared in declarations(EngineOptions)}
    assert told == {name.replace("_", "-") for name in options} - hidden


@given(st.data(), st.sampled_from(WITH_FILES))
def test_what_is_written_is_read(tmp_path_factory, data, verb: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("written")
    values = data.draw(given_options(verb))
    path = config(folder, write_config(verb, values, Path()))
    placed = {name: _placed(folder, value) for name, value in values.items()}
    assert read_config(path, verb) == placed


def _placed(folder: Path, value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_placed(folder, part) for part in value)
    return folder / value if isinstance(value, Path) else value


def test_values_may_be_tomls_own(tmp_path: Path) -> None:
    text = """
        eps = 0.25
        box = [0, 255]
        mean = [0.485, 0.456, 0.406]
        limit = 7
        max_accuracy_drop = "1/20"
        replace-mask = true
        report = "r.json"
    """
    found = read_config(config(tmp_path, text), "harden")
    assert found == {
        "eps": 0.25,
        "box": (0.0, 255.0),
        "mean": "0.485,0.456,0.406",
        "limit": 7,
        "max_accuracy_drop": 0.05,
        "replace_mask": True,
        "report": (tmp_path / "r.json",),
    }


def test_a_table_is_for_one_verb(tmp_path: Path) -> None:
    text = """
        eps = "4/255"
        queries = 5
        [harden]
        attack = "pgd"
        [evaluate]
        eps = ["2/255", "8/255"]
    """
    path = config(tmp_path, text)
    assert read_config(path, "harden") == {"eps": 4 / 255, "attack": "pgd"}
    assert read_config(path, "evaluate") == {"eps": (2 / 255, 8 / 255), "queries": 5}
    assert read_config(path, "attack") == {"eps": 4 / 255}
    assert read_config(path, "verify") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epz = 1", "there is no option epz; did you mean 'eps'"),
        ("max-acuracy-drop = 0.1", "did you mean 'max-accuracy-drop'"),
        ("zzz = 1", "there is no option zzz"),
        ("config = 'other.toml'", "there is no option config"),
        ("[hardn]\neps = 1", "[hardn] is no verb of cloakify's; did you mean 'harden'"),
        ("[harden]\nqueries = 5", "there is no option [harden] queries"),
        ("[evaluate]\nrounds = 5", "there is no option [evaluate] rounds"),
        ("eps = -1", "--eps takes a decimal or a fraction above 0 (8/255), not -1"),
        ("eps = true", "--eps takes"),
        ("eps = 2020-01-01", "--eps takes"),
        ("limit = 1.5", "--limit takes a whole number from 1 on, not '1.5'"),
        ("limit = 'many'", "--limit takes a whole number from 1 on, not 'many'"),
        ("binary = 'perhaps'", "--binary takes true or false, not 'perhaps'"),
        ("norm = ['linf', {a = 1}]", "--norm takes"),
        ("data = 5", "--data takes a path, not 5"),
        ("data = ''", "--data takes a path"),
        ("report = ['a.json', 5]", "--report takes paths"),
        ("eps = ", "is no TOML"),
        ("eps = 1\neps = 2", "is no TOML"),
        ("a = " + "[" * 5000, "is no TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = config(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_config(path, "harden")
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "large.toml").write_bytes(b"#" * 2**21)
    for name, said in (
        ("missing.toml", "can't be read"),
        (".", "can't be read"),
        ("bytes.toml", "is no TOML"),
        ("large.toml", "more than a mebibyte"),
    ):
        with pytest.raises(UsageError, match=said):
            read_config(tmp_path / name, "harden")


@pytest.mark.parametrize(
    "line", ["report = ['../r.json']", "output = '/tmp/x.onnx'", "tune-state = 'a/../../s.npz'"]
)
def test_a_file_that_came_with_a_model_names_none_outside(tmp_path: Path, line: str) -> None:
    path = config(tmp_path, line)
    assert read_config(path, "harden")
    with pytest.raises(UsageError, match="may not, as it is outside their folder"):
        read_config(path, "harden", trusted=False)
    inside = config(tmp_path, "report = ['r.json']\ndata = 'calib'")
    assert len(read_config(inside, "harden", trusted=False)) == 2


@pytest.mark.parametrize("name", ["labels", "classes"])
def test_lists_in_files_count_from_the_file_and_stay_in_its_folder(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "list.txt").write_text("a")
    (tmp_path / "model" / "list.txt").write_text("b")
    path = config(tmp_path / "model", f"{name} = 'list.txt'")
    for trusted in (True, False):
        found = read_config(path, "harden", trusted=trusted)
        assert found == {name: str(tmp_path / "model" / "list.txt")}
    path = config(tmp_path / "model", f"{name} = '../list.txt'")
    assert read_config(path, "harden") == {name: str(tmp_path / "model" / "../list.txt")}
    with pytest.raises(UsageError, match="outside their folder"):
        read_config(path, "harden", trusted=False)
    plain = config(tmp_path / "model", f"{name} = 'model'")
    assert read_config(plain, "harden", trusted=False) == {name: "model"}


@pytest.mark.parametrize("data", ["*.npz", "a/{0..9}.tar", "load.py:samples", "module:samples"])
def test_a_file_that_came_with_a_model_names_no_patterns_and_runs_nothing(
    tmp_path: Path, data: str
) -> None:
    (tmp_path / "load.py").touch()
    path = config(tmp_path, f"data = '{data}'")
    placed = Path(data) if data == "module:samples" else tmp_path / data
    assert read_config(path, "harden")["data"] == placed
    with pytest.raises(UsageError, match="may name no patterns, and nothing to run"):
        read_config(path, "harden", trusted=False)


def test_a_link_leads_not_out(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "out").symlink_to(tmp_path)
    path = config(tmp_path / "model", "output = 'out/h.onnx'")
    with pytest.raises(UsageError, match="outside their folder"):
        read_config(path, "harden", trusted=False)


WRITTEN = [
    ("harden", "output", ".onnx"),
    ("harden", "tune-state", ".npz"),
    ("harden", "report", ".html"),
    ("evaluate", "report", ".cdx.json"),
    ("attack", "output", ".npz"),
]


@pytest.mark.parametrize(("verb", "option", "ending"), WRITTEN)
@pytest.mark.parametrize("link", [False, True])
def test_a_file_that_came_with_a_model_has_nothing_replaced(
    tmp_path: Path, verb: str, option: str, ending: str, link: bool
) -> None:
    """A start-up script of a shell would run what the model's texts say, for one."""
    for name in (f"mine{ending}", ".bashrc", "sitecustomize.py"):
        path = config(tmp_path, f"[{verb}]\n{option} = {[name] if option == 'report' else name!r}")
        key = option.replace("-", "_")
        assert key in read_config(path, verb)
        if name.endswith(ending):
            assert key in read_config(path, verb, trusted=False)
        else:
            with pytest.raises(UsageError, match="ends in none of"):
                read_config(path, verb, trusted=False)
        there = tmp_path / name
        if link:
            there.symlink_to("nowhere")
        else:
            there.write_text("mine")
        assert key in read_config(path, verb)
        with pytest.raises(UsageError, match="is there already") as caught:
            read_config(path, verb, trusted=False)
        assert "\n" not in str(caught.value)


def test_every_option_that_names_an_output_says_what_is_written() -> None:
    """What is read and what is written look alike; none of the latter is forgotten."""
    read = {"data", "attacked", "unlabelled", "against", "config", "resume"}
    for verb in VERBS:
        for declared, _ in options_of(verb):
            if declared.names_files and declared.name not in read:
                assert declared.option.written, declared.flag


def test_the_file_beside_a_model(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    assert config_beside(model) is None
    path = config(tmp_path, "")
    assert config_beside(model) == config_beside(tmp_path) == path
