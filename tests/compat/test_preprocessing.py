"""Images become what torchvision, timm and transformers make of them, pixel by pixel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from cloakify.data import open_data
from cloakify.experiment.classifier import open_classifier
from cloakify.settings import DataOptions
from tests.compat.support.torchvision_ops import torchvision

pytestmark = pytest.mark.compat

MODES = ("RGB", "L", "RGBA", "P", "LA", "CMYK", "1")
COUNT = 200


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """200 images of every mode: photographs' statistics come from enlarged, tinted clothes."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "a").mkdir()
    generator = np.random.default_rng(0)
    sources = sorted((samples / "calib").rglob("*.png"))
    for number in range(COUNT):
        base = Image.open(sources[number * len(sources) // COUNT]).convert("L")
        width, height = (int(side) for side in generator.integers(40, 700, 2))
        scaled = [
            base.rotate(int(turn)).resize((width, height)) for turn in generator.integers(0, 90, 3)
        ]
        image = Image.merge("RGB", scaled)
        noise = generator.integers(-20, 20, (height, width, 3))
        image = Image.fromarray(np.clip(np.asarray(image, int) + noise, 0, 255).astype(np.uint8))
        mode = MODES[number % len(MODES)]
        ending = (
            "jpg" if mode in ("RGB", "CMYK") and number % 2 else "tif" if mode == "CMYK" else "png"
        )
        image.convert(mode).save(folder / "a" / f"{number:03}.{ending}")
    return folder


def ours(folder: Path, model: Path, options: DataOptions) -> np.ndarray:
    classifier = open_classifier(model)
    inputs = classifier.inputs(options)
    data = open_data(
        folder, classifier.spec, inputs.preprocessing, labels="model", fit=inputs.fit, box=None
    )
    return np.concatenate([batch.x for batch in data.batches()])


def opened(folder: Path) -> Iterator[Image.Image]:
    for path in sorted((folder / "a").iterdir()):
        with Image.open(path) as image:
            yield image.convert("RGB")


def model_of(folder: Path, size: int, files: dict[str, Any]) -> Path:
    """Write a linear classifier of images, and the configuration beside it."""
    folder.mkdir(exist_ok=True)
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18]> net (float[N,3,{size},{size}] x) => '
        "(float[N,2] y) <float[3,2] w = {1,2,3,4,5,6}> "
        "{ p = GlobalAveragePool(x)  f = Flatten(p)  y = MatMul(f, w) }"
    )
    onnx.save(model, folder / "model.onnx")
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder / "model.onnx"


def agree(found: np.ndarray, expected: np.ndarray, std: Any) -> None:
    """Pixels on the [0, 1] scale differ by less than a level."""
    assert found.shape == expected.shape
    scale = np.asarray(std, float).reshape(1, -1, 1, 1)
    apart = np.abs((found - expected) * scale).max()
    assert apart <= 1e-6, apart


WEIGHTS = [
    "ResNet18_Weights.IMAGENET1K_V1",
    "ResNet50_Weights.IMAGENET1K_V2",
    "EfficientNet_B1_Weights.IMAGENET1K_V1",
    "EfficientNet_V2_L_Weights.IMAGENET1K_V1",
    "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1",
    "Swin_V2_T_Weights.IMAGENET1K_V1",
    "GoogLeNet_Weights.IMAGENET1K_V1",
    "ViT_B_16_Weights.IMAGENET1K_SWAG_LINEAR_V1",
]


@pytest.mark.parametrize("name", WEIGHTS)
def test_torchvision(images: Path, tmp_path: Path, name: str) -> None:
    torchvision()
    from torchvision import models, transforms

    preset = models.get_weight(name).transforms()
    size = preset.crop_size[0]
    # The presets' first version, on Pillow images: resize before they are tensors.
    pipeline = transforms.Compose(
        [
            transforms.Resize(preset.resize_size[0], preset.interpolation),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(preset.mean, preset.std),
        ]
    )
    expected = np.stack([pipeline(image).numpy() for image in opened(images)])
    found = ours(images, model_of(tmp_path, size, {}), DataOptions(preset=name))
    agree(found, expected, preset.std)


def test_every_weights_transforms_are_known() -> None:
    torchvision()
    from torchvision import models

    from cloakify.experiment.model_settings.presets import preset

    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            wanted, found = weights.transforms(), preset(str(weights))
            assert found.resize_to == wanted.resize_size[0]
            assert found.size == tuple(wanted.crop_size) * 2
            assert found.interpolation == wanted.interpolation.value
            np.testing.assert_allclose(found.mean, wanted.mean)
            np.testing.assert_allclose(found.std, wanted.std, rtol=1e-6)


TIMM = [
    {"crop_pct": 0.875, "interpolation": "bicubic"},
    {"crop_pct": 0.95, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
    {"crop_pct": 1.0, "interpolation": "bicubic"},
    {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic"},
    {"crop_pct": 0.9, "crop_mode": "squash", "interpolation": "lanczos"},
    {"crop_pct": 1.0, "crop_mode": "border", "interpolation": "bicubic"},
    {"crop_pct": 0.9, "crop_mode": "border", "interpolation": "bilinear"},
    {},
]


@pytest.mark.parametrize("own", TIMM, ids=str)
def test_timm(images: Path, tmp_path: Path, own: dict[str, Any]) -> None:
    torchvision()
    data = pytest.importorskip("timm.data")
    own = {"input_size": [3, 224, 224], **own}
    pipeline = data.create_transform(**data.resolve_data_config(own), is_training=False)
    expected = np.stack([pipeline(image).numpy() for image in opened(images)])
    config = {"architecture": "resnet50", "pretrained_cfg": own}
    found = ours(images, model_of(tmp_path, 224, {"config.json": config}), DataOptions())
    agree(found, expected, own.get("std", (0.229, 0.224, 0.225)))


# The processors with their own defaults, and the sizes that published models set.
TRANSFORMERS: list[tuple[str, int, dict[str, Any]]] = [
    ("ViTImageProcessor", 224, {}),
    ("ViTImageProcessor", 384, {"size": {"height": 384, "width": 384}, "resample": 3}),
    ("ConvNextImageProcessor", 224, {"size": {"shortest_edge": 224}}),
    ("ConvNextImageProcessor", 224, {"size": {"shortest_edge": 224}, "crop_pct": 0.95}),
    ("ConvNextImageProcessor", 384, {"size": {"shortest_edge": 384}}),
    ("EfficientNetImageProcessor", 224, {"size": {"height": 224, "width": 224}}),
    ("BeitImageProcessor", 224, {"do_center_crop": False, "size": {"height": 224, "width": 224}}),
    ("MobileViTImageProcessor", 256, {"size": {"shortest_edge": 288}}),
    ("CLIPImageProcessor", 224, {}),
    ("BitImageProcessor", 224, {"size": {"shortest_edge": 256}}),
    ("LevitImageProcessor", 224, {}),
    ("PoolFormerImageProcessor", 224, {}),
    ("MobileNetV2ImageProcessor", 224, {}),
    ("DeiTImageProcessor", 224, {}),
]


@pytest.mark.parametrize(("kind", "size", "changes"), TRANSFORMERS, ids=str)
def test_transformers(
    images: Path, tmp_path: Path, kind: str, size: int, changes: dict[str, Any]
) -> None:
    """Of two processors for one file, that which resizes with Pillow is followed to the bit."""
    torchvision()
    transformers = pytest.importorskip("transformers")
    slow = getattr(transformers, kind + "Pil", None) or getattr(transformers, kind)
    processor = slow(**changes)
    processor.save_pretrained(tmp_path)
    expected = np.stack(
        [
            np.asarray(processor(image, return_tensors="np")["pixel_values"])[0]
            for image in opened(images)
        ]
    )
    found = ours(images, model_of(tmp_path, size, {}), DataOptions())
    std = getattr(processor, "image_std", None) or (1.0, 1.0, 1.0)
    apart = np.abs((found - expected) * np.asarray(std, float).reshape(1, -1, 1, 1))
    print(f"{kind}: {apart.max():.6f} at most, {apart.mean():.6f} on average")
    assert apart.max() <= 1e-6


# As published files say it that were written in transformers' first years.
PUBLISHED: list[tuple[str, int, str, dict[str, Any]]] = [
    ("ConvNext", 224, "resnet", {"crop_pct": 0.875, "resample": 3, "size": 224}),
    ("ConvNext", 384, "convnext", {"resample": 3, "size": 384}),
    ("ViT", 224, "swin", {"resample": 3, "size": 224}),
    ("Beit", 224, "beit", {"crop_size": 224, "do_center_crop": False, "resample": 2, "size": 224}),
    ("DeiT", 224, "deit", {"crop_size": 224, "do_center_crop": True, "resample": 3, "size": 256}),
    ("CLIP", 224, "clip", {"crop_size": 224, "do_center_crop": True, "resample": 3, "size": 224}),
    ("Segformer", 224, "segformer", {"resample": 2, "size": 224}),
    ("Levit", 224, "levit", {"do_center_crop": True, "resample": 3, "size": 224}),
    ("PoolFormer", 224, "poolformer", {"crop_pct": 0.9, "resample": 3, "size": 224}),
]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("kind", "size", "model_type", "says"), PUBLISHED, ids=str)
def test_published_files(
    images: Path,
    tmp_path: Path,
    kind: str,
    size: int,
    model_type: str,
    says: dict[str, Any],
    named: bool,
) -> None:
    """Files with a plain number for a size, and such that name no processor."""
    torchvision()
    transformers = pytest.importorskip("transformers")
    says = {"do_normalize": True, "do_resize": True, **says}
    says |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    if named:
        says["feature_extractor_type"] = f"{kind}FeatureExtractor"
    files = {"preprocessor_config.json": says, "config.json": {"model_type": model_type}}
    model = model_of(tmp_path, size, files)
    name = f"{kind}ImageProcessor"
    slow = getattr(transformers, name + "Pil", None) or getattr(transformers, name)
    processor = slow.from_pretrained(tmp_path)
    expected = np.stack(
        [
            np.asarray(processor(image, return_tensors="np")["pixel_values"])[0]
            for image in opened(images)
        ]
    )
    agree(ours(images, model, DataOptions()), expected, 0.5)
