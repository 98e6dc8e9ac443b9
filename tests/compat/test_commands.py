"""One command for a model and its data, as a new user has them from the field's tools.

As in `test_forms.py` the tool's own answers, sample by sample, are what is right: labels are these,
but for some of the samples, and the command must find just those wrong.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="torch is the oracle here")

from cloakify.cli.main import run  # noqa: E402
from tests.compat.support.oracle import export_quietly  # noqa: E402
from tests.compat.support.torchvision_ops import torchvision  # noqa: E402

pytestmark = pytest.mark.compat

COUNT, SIDE, CLASSES = 24, 224, 3
# Of so many samples the label is not the tool's answer.
WRONG = 6
RIGHT = (1 - WRONG / COUNT, COUNT)


def photographs(folder: Path, answers: np.ndarray | None = None) -> list[Path]:
    """Write JPEGs of odd sizes and modes, in class folders where there are answers."""
    generator = np.random.default_rng(0)
    files = []
    for number in range(COUNT):
        small = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        size = tuple(int(side) for side in generator.integers(150, 500, 2))
        image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        image = image.convert(["RGB", "L", "CMYK"][number % 3])
        place = folder
        if answers is not None:
            label = int(answers[number])
            place = folder / f"class{(label + 1) % CLASSES if number < WRONG else label}"
        place.mkdir(parents=True, exist_ok=True)
        files.append(place / f"{number:03}.jpg")
        image.save(files[-1], quality=60 + number, progressive=number % 2 == 0)
    return files


def balanced(net: Any, x: Any) -> np.ndarray:
    """Let a net of random weights answer with every class; return its answers."""
    net.eval()
    with torch.no_grad():
        head = net.get_classifier() if hasattr(net, "get_classifier") else net.fc
        head.weight.mul_(1000)
        logits = net(x)
        head.bias.sub_(logits.mean(dim=0))
        answers = net(x).argmax(dim=1).numpy()
    assert (np.bincount(answers, minlength=CLASSES) > 2).all(), np.bincount(answers)
    return answers


def export(net: Any, path: Path) -> Path:
    axes = {"dynamic_axes": {"input": {0: "n"}}, "input_names": ["input"], "dynamo": False}
    export_quietly(net.eval(), (torch.zeros(2, 3, SIDE, SIDE),), path, axes)
    return path


def evaluated(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[float, int]:
    """Run the command; return clean accuracy, and of how many samples."""
    options = ["--effort", "quick", "--device", "cpu", "--json", "--accept-accuracy"]
    code = run(["evaluate", *map(str, words), *options])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    clean = json.loads(printed.out)["models"][0]["clean"]
    return clean["value"], clean["n"]


def test_a_folder_of_torchvision_s_for_a_resnet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vision = torchvision()
    transform = vision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    files = photographs(tmp_path / "all")
    x = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    torch.manual_seed(0)
    net = vision.models.resnet18(num_classes=CLASSES)
    answers = balanced(net, x)
    photographs(tmp_path / "val", answers)
    path = export(net, tmp_path / "resnet18.onnx")
    words = [path, "--data", tmp_path / "val", "--preset", "imagenet", "--attack", "fgsm"]
    assert evaluated(capsys, *words) == RIGHT


def test_a_repository_of_timm_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timm = pytest.importorskip("timm")
    from timm.models import save_for_hf

    torch.manual_seed(0)
    # What it was trained with is none of the usual: 0.95 of 224, bicubic.
    net = timm.create_model("resnet18.a1_in1k", pretrained=False, num_classes=CLASSES)
    folder = tmp_path / "model"
    folder.mkdir()
    save_for_hf(net, folder, safe_serialization=False)
    config = timm.data.resolve_model_data_config(net)
    transform = timm.data.create_transform(**config, is_training=False)
    files = photographs(tmp_path / "all")
    x = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    answers = balanced(net, x)
    photographs(tmp_path / "val", answers)
    export(net, folder / "model.onnx")
    words = [folder, "--data", tmp_path / "val", "--attack", "fgsm"]
    assert evaluated(capsys, *words) == RIGHT


def test_a_model_of_lightgbm_s_with_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trees have no gradient: hardening is refused as that, and black-box attacks judge them."""
    lightgbm, pandas = pytest.importorskip("lightgbm"), pytest.importorskip("pandas")
    onnxmltools = pytest.importorskip("onnxmltools")
    from onnxmltools.convert.common.data_types import FloatTensorType

    generator = np.random.default_rng(0)
    x = generator.random((120, 5)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 1).astype(int) + (x[:, 2] > 0.5)
    made = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(x, y)
    types = [("x", FloatTensorType([None, 5]))]
    converted = onnxmltools.convert_lightgbm(made, initial_types=types, zipmap=False)
    (tmp_path / "m.onnx").write_bytes(converted.SerializeToString())
    frame = pandas.DataFrame(x, columns=list("abcde")).assign(label=y)
    frame.to_csv(tmp_path / "d.csv", index=False)
    right = float((made.predict(x) == y).mean()), 120
    words = [tmp_path / "m.onnx", "--data", tmp_path / "d.csv"]
    found = evaluated(capsys, *words, "--attack", "square")
    assert found == pytest.approx(right)
    code = run(["harden", *map(str, words), "--device", "cpu"])
    said = capsys.readouterr().err
    assert code == 3, said
    assert "TreeEnsemble" in said and "Traceback" not in said


def test_a_sigmoid_of_keras_with_parquet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is the oracle here")
    tf2onnx, keras = pytest.importorskip("tf2onnx"), pytest.importorskip("keras")
    pandas = pytest.importorskip("pandas")
    import tensorflow

    keras.utils.set_random_seed(0)
    layers = keras.layers
    net = keras.Sequential(
        [layers.Input((6,)), layers.Dense(16, "relu"), layers.Dense(1, "sigmoid")]
    )
    x = np.random.default_rng(0).normal(size=(COUNT, 6)).astype(np.float32)
    net.layers[-1].bias.assign(net.layers[-1].bias - np.median(net.predict(x, verbose=0)))
    answers = (net.predict(x, verbose=0)[:, 0] > 0.5).astype(int)
    labels = np.where(np.arange(COUNT) < WRONG, 1 - answers, answers)
    signature = [tensorflow.TensorSpec((None, 6), tensorflow.float32, "x")]
    model, _ = tf2onnx.convert.from_function(
        tensorflow.function(net), input_signature=signature, opset=17
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    frame = pandas.DataFrame(x, columns=list("abcdef")).assign(target=labels.astype(bool))
    frame.to_parquet(tmp_path / "d.parquet")
    words = [tmp_path / "m.onnx", "--data", tmp_path / "d.parquet", "--box", "none"]
    assert evaluated(capsys, *words, "--attack", "fgsm") == RIGHT
