"""What comes with a model says how its inputs are made, each source in its turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.errors import ModelError, UsageError
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import open_experiment
from cloakify.experiment.model_settings import InputSettings
from cloakify.settings import AttackSetting, DataOptions

BODY = "p = GlobalAveragePool(x)  f = Flatten(p)  y = MatMul(f, w)"


def write(folder: Path, body: str = BODY, size: int = 32, **metadata: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18]> net (float[N,3,{size},{size}] x) => '
        "(float[N,2] y) <float[3,2] w = {1,2,3,4,5,6}, float c = {0.003921569}, "
        "float d = {127.5}, float[1,3,1,1] m = {123.68,116.78,103.94}, float h = {0.5}> "
        f"{{ {body} }}"
    )
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def inputs_of(path: Path, **options: Any) -> InputSettings:
    return open_classifier(path).inputs(DataOptions(**options))


def test_without_a_word_pixels_are_from_0_to_1(tmp_path: Path) -> None:
    found = inputs_of(write(tmp_path))
    assert found.source is None and found.preprocessing == Preprocessing()
    assert (found.fit.resize, found.fit.scaled) == ("crop", None)


def test_precedence(tmp_path: Path) -> None:
    """Option, preset, processor, timm, metadata: each wins over those behind it."""
    metadata = {"Image.NominalPixelRange": "NominalRange_0_255", "Image.BitmapPixelFormat": "Bgr8"}
    path = write(tmp_path, **metadata)
    found = inputs_of(path)
    assert (found.preprocessing.scale, found.fit.channels) == (255.0, "bgr")
    config = {"pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.1] * 3, "std": [0.2] * 3}}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "x", **config}))
    found = inputs_of(path)
    assert (found.source, found.preprocessing.mean) == ("config.json", (0.1,) * 3)
    assert (found.preprocessing.scale, found.fit.crop_pct) == (1.0, 0.875)
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
        "resample": 3,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    found = inputs_of(path)
    assert found.source == "preprocessor_config.json"
    assert (found.preprocessing.mean, found.preprocessing.std) == ((0.5,) * 3, (0.25,) * 3)
    assert (found.fit.resize, found.fit.interpolation) == ("stretch", "bicubic")
    found = inputs_of(path, preset="caffe")
    assert (found.source, found.preprocessing.scale) == ("--preset caffe", 255.0)
    found = inputs_of(path, mean="0.3", interpolation="nearest", resize="pad")
    assert found.preprocessing == Preprocessing(1.0, (0.3,), (0.25,) * 3)
    assert (found.fit.resize, found.fit.interpolation) == ("pad", "nearest")


@pytest.mark.parametrize(
    ("body", "scale"),
    [
        ("s = Mul(x, c)  p = GlobalAveragePool(s)  f = Flatten(p)  y = MatMul(f, w)", 255.0),
        ("s = Mul(c, x)  p = GlobalAveragePool(s)  f = Flatten(p)  y = MatMul(f, w)", 255.0),
        ("i = Identity(x)  s = Div(i, d)  p = GlobalAveragePool(s)  f = Flatten(p)  "
         "y = MatMul(f, w)", 255.0),
        ("s = Sub(x, m)  p = GlobalAveragePool(s)  f = Flatten(p)  y = MatMul(f, w)", 255.0),
        ("s = Sub(x, h)  p = GlobalAveragePool(s)  f = Flatten(p)  y = MatMul(f, w)", 1.0),
        ("s = Mul(x, h)  p = GlobalAveragePool(s)  f = Flatten(p)  y = MatMul(f, w)", 1.0),
    ],
)  # fmt: skip
def test_a_graph_that_scales_pixels_takes_0_to_255(tmp_path: Path, body: str, scale: float) -> None:
    assert inputs_of(write(tmp_path, body)).preprocessing.scale == scale


def test_what_a_processor_computes(tmp_path: Path) -> None:
    """Against the definition: ``((v·rescale − offset) − mean) / std`` of bytes v, per channel."""
    path = write(tmp_path)
    processor = {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 32, "width": 32},
        "rescale_factor": 1 / 127.5,
        "rescale_offset": True,
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.6, 0.7],
        "include_top": True,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    found = inputs_of(path).preprocessing.to_model(values, 1)
    mean, std = (np.reshape(processor[key], (1, 3, 1, 1)) for key in ("image_mean", "image_std"))
    expected = (values * (1 / 127.5) - 1 - mean) / std / std
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "model_type", "says", "scaled", "crops"),
    [
        # A plain number is the shorter side to some processors, and both sides to the others.
        ("ConvNextFeatureExtractor", "resnet", {"size": 28, "crop_pct": 0.875}, 32, True),
        ("ConvNextImageProcessor", None, {"size": 28}, 32, True),
        ("SegformerFeatureExtractor", "segformer", {"size": 28}, 28, False),
        ("ViTFeatureExtractor", "swin", {"size": 28}, 28, False),
        # Without a processor's name it is that of the model's type.
        (None, "vit", {"size": 28}, 28, False),
        (None, "resnet", {"size": 28, "crop_pct": 0.875}, 32, True),
        (None, "clip", {"size": 32, "crop_size": 28, "do_center_crop": True}, 32, True),
        (None, "deit", {"size": 32, "crop_size": 28, "do_center_crop": True}, 32, False),
        (None, None, {"size": 28}, 28, False),
    ],
)
def test_a_plain_number_for_a_size(
    tmp_path: Path,
    kind: str | None,
    model_type: str | None,
    says: dict[str, Any],
    scaled: int,
    crops: bool,
) -> None:
    """As the files of `microsoft/resnet-50` and `google/vit-base-patch16-224`; Pillow is right."""
    path = write(tmp_path, size=28)
    says = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3, **says}
    if kind is not None:
        says["feature_extractor_type"] = kind
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(says))
    if model_type is not None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images" / "0.png")
    shape = (scaled * 90 // 60, scaled) if crops else (scaled, scaled)
    image = Image.fromarray(pixels).resize(shape, Image.Resampling.BICUBIC)
    left, top = (image.width - 28) // 2, (image.height - 28) // 2
    cut = np.asarray(image.crop((left, top, left + 28, top + 28)), np.float32)
    classifier = open_classifier(path)
    inputs = classifier.inputs(DataOptions())
    data = open_data(
        tmp_path / "images", classifier.spec, inputs.preprocessing, labels="model", fit=inputs.fit
    )
    (batch,) = data.batches()
    np.testing.assert_allclose(batch.x[0], (cut / 255 - 0.5).transpose(2, 0, 1) / 0.5, atol=1e-5)


def test_a_configuration_of_another_models_images_stops(tmp_path: Path) -> None:
    path = write(tmp_path)
    processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}}
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(processor))
    with pytest.raises(ModelError, match="makes images 224×224, which the model does not take"):
        inputs_of(path)
    assert inputs_of(path, resize="crop").fit.scaled is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"image_mean": "x", "size": 3}', '{"size": {"shortest_edge": -1}}',
     '{"size": {}, "image_mean": [1]}', '{"resample": 9, "size": 32}',
     '{"do_pad": true, "size": 3}',
     '{"size": {"height": 32, "width": 32}, "image_std": [0, 1, 1]}'],
)  # fmt: skip
def test_a_broken_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    path = write(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises((ModelError, UsageError)) as caught:
        inputs_of(path)
    assert "\n" not in str(caught.value)


def test_files_of_other_things_say_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"feature_size": 80}')
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    assert inputs_of(path).source is None


def test_a_repository_is_a_model(tmp_path: Path) -> None:
    """`onnx/model.onnx` below the configuration, links into a store of files without names."""
    write(tmp_path / "blobs")
    folder = tmp_path / "snapshot"
    (folder / "onnx").mkdir(parents=True)
    (tmp_path / "blobs" / "model.onnx").rename(folder / "onnx" / "model.onnx")
    names = {"id2label": {"0": "cat", "1": "dog"}, "model_type": "vit"}
    (tmp_path / "blobs" / "1").write_text(json.dumps(names))
    (folder / "config.json").symlink_to(tmp_path / "blobs" / "1")
    classifier = open_classifier(folder)
    assert classifier.file.path == folder / "onnx" / "model.onnx"
    assert classifier.class_names == ("cat", "dog")


def test_a_folder_of_several_models_is_ambiguous(tmp_path: Path) -> None:
    write(tmp_path).rename(tmp_path / "a.onnx")
    assert open_classifier(tmp_path).file.path == tmp_path / "a.onnx"
    write(tmp_path).rename(tmp_path / "b.onnx")
    with pytest.raises(ModelError, match="holds 2 models"):
        open_classifier(tmp_path)
    with pytest.raises(ModelError, match=r"without an \.onnx file"):
        open_classifier(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_an_unknown_preset_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean ResNet50_Weights\.IMAGENET1K_V2"):
        inputs_of(write(tmp_path), preset="ResNet50_Weight.IMAGENET1K_V2")


def test_what_was_read_holds_for_the_run(tmp_path: Path) -> None:
    """A file that is broken by the time that a report is written changes nothing of it."""
    path = write(tmp_path)
    processor = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3}
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(processor))
    np.save(tmp_path / "x.npy", np.zeros((4, 3, 32, 32), np.float32))
    setting = AttackSetting(labels="model", device="cpu")
    experiment = open_experiment(
        open_classifier(path), tmp_path / "x.npy", setting, lambda *_: np.zeros(4, np.int64)
    )
    told = experiment.notes
    file.write_text("{")
    assert experiment.notes == told and "preprocessor_config.json" in told[0]
