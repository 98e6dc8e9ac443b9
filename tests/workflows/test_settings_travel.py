"""A hardened file says itself how its source's inputs were made, wherever it is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from cloakify import EvaluateSetting, HardenSetting, evaluate, harden, inspect, verify
from cloakify.errors import UsageError
from cloakify.experiment.classifier import open_classifier
from cloakify.settings import DataOptions

SETTING = HardenSetting(
    eps=4 / 255,
    mask_ratio=0.05,
    score="deepcloak",
    attack="fgsm",
    evaluation_steps=1,
    limit=80,
    device="cpu",
    accept_accuracy=True,
)


class Passed(Exception):
    """The models have been looked at, and may be compared."""


def compare(models: list[Path], data: Path, **options: object) -> None:
    def stop(outlook: object) -> None:
        raise Passed

    setting = EvaluateSetting(eps=4 / 255, attack="fgsm", limit=40, device="cpu", **options)
    evaluate(models, data, setting, told=stop)


@pytest.fixture(scope="module")
def hardened(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source in a folder with its settings, and what was made of it, in another."""
    folder = tmp_path_factory.mktemp("models")
    source = folder / "source" / "model.onnx"
    source.parent.mkdir()
    shutil.copyfile(samples / "fashion_wide.onnx", source)
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "resample": 0,
        "size": {"height": 28, "width": 28}, "do_normalize": False, "do_rescale": True,
        "rescale_factor": 1 / 255,
    }  # fmt: skip
    (source.parent / "preprocessor_config.json").write_text(json.dumps(processor))
    output = folder / "elsewhere" / "hardened.onnx"
    output.parent.mkdir()
    harden(source, samples / "calib", output, SETTING)
    return source, output


def test_the_file_makes_its_inputs_as_its_source_does(hardened: tuple[Path, Path]) -> None:
    source, output = hardened
    first, second = (open_classifier(path).inputs(DataOptions()) for path in hardened)
    assert second.is_as(first) and second.fit.interpolation == "nearest"
    assert second.fit.resize == "stretch"
    assert second.source == "the metadata of the hardened model"
    assert "metadata of the hardened model" in inspect(output).inputs
    assert verify(output, source).faults == ()


def test_models_are_compared_where_what_they_say_agrees(
    hardened: tuple[Path, Path], samples: Path, tmp_path: Path
) -> None:
    bare, data = tmp_path / "bare.onnx", samples / "calib"
    shutil.copyfile(hardened[0], bare)
    with pytest.raises(Passed):
        compare([*hardened], data)
    with pytest.raises(UsageError, match=r"hardened.onnx takes inputs as the metadata .* nothing"):
        compare([bare, hardened[1]], data)
    # One that nothing comes with takes what the first one does; and options count for all.
    with pytest.raises(Passed):
        compare([hardened[0], bare], data)
    with pytest.raises(Passed):
        compare([bare, hardened[1]], data, resize="stretch", interpolation="box")


@pytest.mark.parametrize("text", ['{"scale":0}', "{}", '{ "scale":2.0}', "nonsense"])
def test_verify_refuses_what_is_never_written(
    hardened: tuple[Path, Path], tmp_path: Path, text: str
) -> None:
    source, output = hardened
    model = onnx.load(output)
    (entry,) = (e for e in model.metadata_props if e.key == "cloakify.preprocessing")
    entry.value = text
    onnx.save(model, tmp_path / "odd.onnx")
    (fault,) = verify(tmp_path / "odd.onnx", source).faults
    assert "cloakify.preprocessing" in fault and "as harden never does" in fault
    assert open_classifier(tmp_path / "odd.onnx").inputs(DataOptions()).source is None
