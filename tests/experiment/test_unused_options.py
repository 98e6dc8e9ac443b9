"""An option of the data either changes what is attacked, or a note names it.

Every option of the data is tried with every form of samples; what is right is seen in the samples,
their labels and the budget alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from cloakify.errors import CloakifyError
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import Experiment, open_experiment
from cloakify.settings import AttackSetting, DataOptions
from cloakify.settings.option import declarations
from tests.support.text_models import TextModel

SIDE, COUNT = 6, 12
LABELS = np.arange(COUNT) % 2
# A value that changes something wherever the option can.
VALUES: dict[str, Any] = {
    "labels": "model",
    "classes": "dog,cat",
    "encoding": "utf-16-le",
    "limit": 5,
    "preset": "caffe",
    "scale": "2",
    "mean": "0.1",
    "std": "0.5",
    "box": None,
    "resize": "stretch",
    "resize_to": 8,
    "crop_pct": 0.5,
    "interpolation": "nearest",
    "channels": "bgr",
}
# Says only what to do of low accuracy, which no form of samples has by itself.
OF_ANSWERS = {"accept_accuracy"}


def write_model(folder: Path, shape: str) -> Path:
    count = int(np.prod([int(size) for size in shape.split(",")]))
    weight = np.random.default_rng(0).normal(size=(2, count)).astype(np.float32)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        model (float[N,{shape}] x) => (float[N,2] logits)
        {{ flat = Flatten (x) logits = Gemm <transB = 1> (flat, weight) }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def write_images(folder: Path, *, classes: bool = True) -> Path:
    random = np.random.default_rng(1)
    for number, label in enumerate(LABELS):
        place = folder / ("cat", "dog")[label] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (11, 15, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number:02}.png")
    return folder


def of_images(folder: Path, shape: str) -> tuple[Path, Path, dict[str, Any]]:
    return write_model(folder, shape), write_images(folder / "images"), {}


def listed(folder: Path, shape: str) -> tuple[Path, Path, dict[str, Any]]:
    images = write_images(folder / "images", classes=False)
    rows = [f"{number:02}.png,{('cat', 'dog')[label]}" for number, label in enumerate(LABELS)]
    (images / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    return write_model(folder, shape), images, {}


def listed_apart(folder: Path, shape: str) -> tuple[Path, Path, dict[str, Any]]:
    images = write_images(folder / "images", classes=False)
    (folder / "labels.txt").write_text("\n".join(("cat", "dog")[label] for label in LABELS))
    return write_model(folder, shape), images, {"labels": str(folder / "labels.txt")}


def of_arrays(folder: Path, shape: str, *, pixels: bool) -> tuple[Path, Path, dict[str, Any]]:
    size = (COUNT, *(int(each) for each in shape.split(",")))
    random = np.random.default_rng(2)
    x = random.integers(0, 256, size, np.uint8) if pixels else random.random(size, np.float32)
    np.savez(folder / "data.npz", x=x, y=LABELS)
    return write_model(folder, shape), folder / "data.npz", {}


def of_table(folder: Path, shape: str) -> tuple[Path, Path, dict[str, Any]]:
    rows = np.random.default_rng(3).random((COUNT, int(shape)))
    cells = [",".join(map(str, (*row, label))) for row, label in zip(rows, LABELS, strict=True)]
    (folder / "data.csv").write_text("\n".join(["a,b,c,label", *cells]))
    return write_model(folder, shape), folder / "data.csv", {}


def of_ids(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
    return (*TextModel().save(folder, samples=COUNT), {})


Form = Callable[[Path], tuple[Path, Path, dict[str, Any]]]
RGB, GREY = f"3,{SIDE},{SIDE}", f"1,{SIDE},{SIDE}"
FORMS: dict[str, Form] = {
    "images": lambda folder: of_images(folder, RGB),
    "images, made grey": lambda folder: of_images(folder, GREY),
    "images and metadata": lambda folder: listed(folder, RGB),
    "images and a list of labels": lambda folder: listed_apart(folder, RGB),
    "pixels": lambda folder: of_arrays(folder, RGB, pixels=True),
    "grey pixels": lambda folder: of_arrays(folder, GREY, pixels=True),
    "numbers": lambda folder: of_arrays(folder, RGB, pixels=False),
    "a table": lambda folder: of_table(folder, "3"),
    "ids": of_ids,
}


def opened(model: Path, data: Path, **options: Any) -> Experiment | CloakifyError:
    setting = AttackSetting(device="cpu", task="single", **options)
    try:
        return open_experiment(
            open_classifier(model), data, setting, lambda found: np.zeros(len(found.dataset), int)
        )
    except CloakifyError as error:
        return error


def outcome(found: Experiment | CloakifyError) -> object:
    """Return what is attacked and how far."""
    if isinstance(found, CloakifyError):
        return type(found)
    try:
        fed = found.dataset.inputs(np.arange(len(found.dataset)))
    except CloakifyError as error:
        return type(error)
    bounds = [getattr(found.threat, each.name) for each in dataclasses.fields(found.threat)]
    return (
        {name: (x.shape, x.tobytes()) for name, x in fed.items()},
        found.labels.tolist(),
        found.dataset.class_names,
        [np.asarray(bound).tolist() for bound in bounds],
    )


@pytest.mark.parametrize("form", FORMS)
def test_an_option_has_an_effect_or_is_named(form: str, tmp_path: Path) -> None:
    model, data, given = FORMS[form](tmp_path)
    plain = opened(model, data, **given)
    assert isinstance(plain, Experiment), plain
    assert not any("no effect" in note for note in plain.notes)
    wrong = []
    for declared in declarations(DataOptions):
        if declared.name in OF_ANSWERS:
            continue
        value = VALUES[declared.name]
        found = opened(model, data, **(given | {declared.name: value}))
        changed = outcome(found) != outcome(plain)
        notes = () if isinstance(found, CloakifyError) else found.dataset.notes
        named = any("no effect" in note and declared.flag in note for note in notes)
        if changed == named:
            wrong.append((declared.flag, changed, notes))
    assert wrong == []


def test_names_in_a_file_have_an_encoding(tmp_path: Path) -> None:
    model, data, _ = FORMS["numbers"](tmp_path)
    names = tmp_path / "names.txt"
    names.write_text("Kühe\nZüge", "cp1252")
    found = opened(model, data, classes=str(names), encoding="cp1252")
    assert isinstance(found, Experiment)
    assert found.dataset.class_names == ("Kühe", "Züge")
    assert not any("no effect" in note for note in found.notes)


def test_the_models_own_answers_go_by_the_names_that_are_given(tmp_path: Path) -> None:
    model, data, _ = FORMS["numbers"](tmp_path)
    found = opened(model, data, labels="model", classes="dog,cat")
    assert isinstance(found, Experiment)
    assert found.dataset.class_names == ("dog", "cat")


def test_several_options_are_named_in_one_line(tmp_path: Path) -> None:
    model, data, _ = FORMS["numbers"](tmp_path)
    found = opened(model, data, resize="pad", interpolation="bicubic", encoding="cp1252")
    assert isinstance(found, Experiment)
    said = [note for note in found.dataset.notes if "no effect" in note]
    assert len(said) == 2
    where = f"{tmp_path}/data.npz"
    assert said[1] == (
        f"--resize, --interpolation have no effect on {where}: that is for files of images, and it "
        "holds numbers as the model takes them"
    )


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("images", "scale 2, mean 0, std 1; rgb; crop, bilinear"),
        ("pixels", "scale 2, mean 0, std 1; rgb"),
        ("numbers", "scale 2, mean 0, std 1"),
        ("ids", None),
    ],
)
def test_reports_tell_what_is_done_to_such_samples(
    form: str, told: str | None, tmp_path: Path
) -> None:
    model, data, given = FORMS[form](tmp_path)
    found = opened(model, data, **given, **({} if form == "ids" else {"scale": "2"}))
    assert isinstance(found, Experiment)
    assert found.inputs.told_of(found.dataset.forms) == told
