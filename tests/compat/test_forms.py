"""Data and models as the field's tools write them: one command each, and the tools' own accuracy.

Every case writes files by the tool that people have them from, takes the tool's own answers, sample
by sample, for what is right, and runs the command as a new user would. `tests/compat/README.md` is
the table of them.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
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

COUNT, CLASSES, SIDE = 60, ["bag", "boot", "coat"], 32
# Of so many samples the label is not the tool's answer.
WRONG = 12


class Net(torch.nn.Module):
    """Which colour is the strongest, on the whole: answers that every step before changes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Conv2d(3, 3, 9, 4)
        self.head = torch.nn.Linear(3, len(CLASSES), bias=False)
        with torch.no_grad():
            torch.nn.init.zeros_(self.body.weight)
            torch.nn.init.constant_(self.body.bias, 3.0)
            self.body.weight[range(3), range(3)] = 1 / 81
            self.head.weight.copy_(5 * torch.eye(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x)).mean(dim=(2, 3)))


def export(net: torch.nn.Module, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {"dynamic_axes": {"input": {0: "n"}}, "input_names": ["input"], "dynamo": False}
    export_quietly(net.eval(), (torch.zeros(2, 3, SIDE, SIDE),), path, axes)
    return path


def pictures() -> list[Image.Image]:
    """Photographs of odd sizes and modes, smooth, each with colours of its own."""
    generator = np.random.default_rng(0)
    made = []
    for number in range(COUNT):
        small = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        width, height = (int(side) for side in generator.integers(33, 120, 2))
        image = small.resize((width, height), Image.Resampling.BICUBIC)
        made.append(image.convert(["RGB", "L", "RGBA"][number % 3]))
    return made


def labels_of(answers: np.ndarray) -> np.ndarray:
    """The tool's answers, but for the first few samples another class."""
    labels = answers.copy()
    labels[:WRONG] = (labels[:WRONG] + 1) % len(CLASSES)
    assert (np.bincount(answers, minlength=len(CLASSES)) > 2).all(), np.bincount(answers)
    return labels


def accuracy(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[float, int]:
    """Run the command; return clean accuracy, and of how many samples."""
    options = ["--attack", "fgsm", "--device", "cpu", "--json", "--accept-accuracy"]
    code = run(["evaluate", *map(str, words), *options])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    clean = json.loads(printed.out)["models"][0]["clean"]
    return clean["value"], clean["n"]


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return pictures()


@pytest.fixture(scope="module")
def told(images: list[Image.Image]) -> np.ndarray:
    """Labels by torchvision's transforms and torch."""
    transforms = torchvision().transforms
    made = transforms.Compose(
        [
            transforms.Resize(36), transforms.CenterCrop(SIDE), transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )  # fmt: skip
    with torch.no_grad():
        logits = Net()(torch.stack([made(image.convert("RGB")) for image in images]))
    return labels_of(logits.argmax(dim=1).numpy())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A repository as transformers has it, with the processor that says the same."""
    path = export(Net(), tmp_path / "model" / "onnx" / "model.onnx")
    processor = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "resample": 2,
        "size": {"shortest_edge": 36}, "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    config = {"id2label": dict(enumerate(CLASSES))}
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(processor))
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    assert path.is_file()
    return tmp_path / "model"


def as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_folders(folder: Path, images: list[Image.Image], labels: np.ndarray) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:03}.png")


def write_flat(folder: Path, images: list[Image.Image], labels: np.ndarray) -> None:
    (folder / "flat").mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / "flat" / f"{number:03}.png")
    rows = [f"{number:03}.png,{CLASSES[label]}" for number, label in enumerate(labels)]
    (folder / "labels.csv").write_text("\n".join(["image,label", *rows]))


def write_shards(folder: Path, images: list[Image.Image], labels: np.ndarray) -> None:
    folder.mkdir()
    for shard in range(4):
        with tarfile.open(folder / f"{shard:03}.tar", "w") as archive:
            for number in range(shard, COUNT, 4):
                for ending, data in (
                    ("png", as_png(images[number])), ("cls", str(labels[number]).encode())
                ):  # fmt: skip
                    info = tarfile.TarInfo(f"{number:03}.{ending}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))


def test_class_folders_and_patterns(
    model: Path, images: list[Image.Image], told: np.ndarray, tmp_path: Path, capsys: Any
) -> None:
    write_folders(tmp_path / "val" / "x", images, told)
    write_flat(tmp_path / "f", images, told)
    write_shards(tmp_path / "shards", images, told)
    right = (1 - WRONG / COUNT, COUNT)
    assert accuracy(capsys, model, "--data", tmp_path / "val" / "x") == right
    assert accuracy(capsys, model, "--data", tmp_path / "val" / "x" / "*" / "*.png") == right
    assert accuracy(capsys, model, "--data", tmp_path / "shards" / "{000..003}.tar") == right
    listed = ["--labels", tmp_path / "f" / "labels.csv"]
    for data in (tmp_path / "f" / "flat", tmp_path / "f" / "flat" / "*.png"):
        assert accuracy(capsys, model, "--data", data, *listed) == right


def test_what_datasets_saves(
    model: Path, images: list[Image.Image], told: np.ndarray, tmp_path: Path, capsys: Any
) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"photo": datasets.Image(), "kind": datasets.ClassLabel(names=CLASSES)}
    )
    rows = {"photo": images, "kind": told.tolist()}
    whole = datasets.Dataset.from_dict(rows, features=features)
    assert [CLASSES[row["kind"]] for row in whole] == [CLASSES[label] for label in told]
    whole.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    some = whole.select(range(10))
    datasets.DatasetDict(train=some, validation=whole).save_to_disk(str(tmp_path / "dict"))
    (tmp_path / "hub" / "data").mkdir(parents=True)
    whole.to_parquet(str(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet"))
    some.to_parquet(str(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet"))
    for form in ("saved", "dict", "hub"):
        found = accuracy(capsys, model, "--data", tmp_path / form)
        assert found == (1 - WRONG / COUNT, COUNT), form


def test_torch_s_own_loaders(
    images: list[Image.Image], told: np.ndarray, tmp_path: Path, capsys: Any
) -> None:
    write_folders(tmp_path / "val", images, told)
    path = export(Net(), tmp_path / "model.onnx")
    script = tmp_path / "load.py"
    script.write_text(
        f"""
import torch
from torchvision import datasets, transforms

def samples():
    made = transforms.Compose([
        transforms.Resize(36), transforms.CenterCrop({SIDE}), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    return torch.utils.data.DataLoader(datasets.ImageFolder({str(tmp_path / "val")!r}, made), 7)

def pictures():
    return datasets.ImageFolder({str(tmp_path / "val")!r})
"""
    )
    right = (1 - WRONG / COUNT, COUNT)
    assert accuracy(capsys, path, "--data", f"{script}:samples", "--box", "none") == right
    preset = ["--preset", "imagenet", "--resize-to", 36]
    assert accuracy(capsys, path, "--data", f"{script}:pictures", *preset) == right
    assert accuracy(capsys, path, "--data", tmp_path / "val", *preset) == right


def test_a_pipeline_of_scikit_learn_s_with_pandas_csv(tmp_path: Path, capsys: Any) -> None:
    pandas, skl2onnx = pytest.importorskip("pandas"), pytest.importorskip("skl2onnx")
    sklearn = pytest.importorskip("sklearn.pipeline")
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(0)
    x = generator.normal(size=(90, 4)) * [1, 10, 0.1, 5] + [0, 50, 1, -3]
    y = np.array(CLASSES)[(x[:, 0] > 0).astype(int) + (x[:, 1] > 50)]
    made = sklearn.make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    initial = [("X", skl2onnx.common.data_types.FloatTensorType([None, 4]))]
    options = {id(made): {"zipmap": False}}
    onnx_model = skl2onnx.to_onnx(made, initial_types=initial, options=options)
    (tmp_path / "model.onnx").write_bytes(onnx_model.SerializeToString())
    frame = pandas.DataFrame(x, columns=list("abcd")).assign(species=y)
    right = (float((made.predict(x) == y).mean()), 90)
    writers: dict[str, Callable[[Path], object]] = {
        "indexed.csv": frame.to_csv,
        "plain.csv": lambda path: frame.to_csv(path, index=False),
        "german.csv": lambda path: frame.to_csv(path, index=False, sep=";"),
        "lines.jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
        "frame.parquet": frame.to_parquet,
        "frame.feather": frame.to_feather,
    }
    for name, write in writers.items():
        write(tmp_path / name)
        words = [tmp_path / "model.onnx", "--data", tmp_path / name, "--labels", "species"]
        assert accuracy(capsys, *words, "--box", "none") == pytest.approx(right), name


def test_a_text_classifier_with_its_repository(tmp_path: Path, capsys: Any) -> None:
    transformers, datasets = (pytest.importorskip(n) for n in ("transformers", "datasets"))
    from tests.compat.support import transformers_text

    names = [f"w{number}" for number in range(transformers_text.WORDS - 5)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *names]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"), model_max_length=12)
    tokenizer.save_pretrained(tmp_path)
    net = transformers_text.make("Bert")
    ids, mask = transformers_text.samples("Bert", 2)
    transformers_text.export(net, ids, mask, "TorchScript", tmp_path / "model.onnx")
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(names, generator.integers(3, 20))) for _ in range(COUNT)]
    encoded = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = net(encoded["input_ids"], encoded["attention_mask"])
    answers = getattr(logits, "logits", logits).argmax(dim=1).numpy()
    labels = answers.copy()
    labels[:WRONG] = (labels[:WRONG] + 1) % 5
    rows = {"text": texts, "label": labels.tolist()}
    table = datasets.Dataset.from_dict(rows)
    table.to_csv(str(tmp_path / "d.csv"))
    table.to_json(str(tmp_path / "d.jsonl"))
    table.to_parquet(str(tmp_path / "d.parquet"))
    table.save_to_disk(str(tmp_path / "saved"))
    for form in ("d.csv", "d.jsonl", "d.parquet", "saved"):
        found = accuracy(capsys, tmp_path / "model.onnx", "--data", tmp_path / form)
        assert found == (1 - WRONG / COUNT, COUNT), form


def test_a_reader_that_a_model_was_quantised_with(
    images: list[Image.Image], told: np.ndarray, tmp_path: Path, capsys: Any
) -> None:
    path = export(Net(), tmp_path / "model.onnx")
    np.save(tmp_path / "labels.npy", told)
    write_folders(tmp_path / "val", images, np.zeros(COUNT, int))
    script = tmp_path / "calibration.py"
    script.write_text(
        f"""
import numpy as np
from onnxruntime.quantization import CalibrationDataReader
from torchvision import datasets, transforms

class Reader(CalibrationDataReader):
    def __init__(self):
        made = transforms.Compose([
            transforms.Resize(36), transforms.CenterCrop({SIDE}), transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
        self.samples = iter(datasets.ImageFolder({str(tmp_path / "val")!r}, made))

    def get_next(self):
        sample = next(self.samples, None)
        return None if sample is None else {{"input": sample[0].numpy()[None]}}
"""
    )
    words = [path, "--data", f"{script}:Reader", "--labels", tmp_path / "labels.npy"]
    assert accuracy(capsys, *words, "--box", "none") == (1 - WRONG / COUNT, COUNT)
