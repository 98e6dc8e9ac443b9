"""Text in, verdict out: with the tokenizer beside the model, and the ids that it makes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cloakify import AttackSetting, EvaluateSetting, evaluate, inspect
from cloakify.data import Samples
from cloakify.errors import CloakifyError, DataError, ModelError
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import Experiment, open_experiment
from tests.support.text_models import LENGTH, WORDS, TextModel

tokenizers = pytest.importorskip("tokenizers")

VOCABULARY = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3} | {
    f"w{number}": number for number in range(4, WORDS)
}


def write_tokenizer(folder: Path, **told: object) -> None:
    """A tokenizer of words that puts [CLS] before, and [SEP] behind, a text or a pair."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(VOCABULARY, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    text = json.loads(made.to_str())
    (folder / "tokenizer.json").write_text(json.dumps(text | told))


@pytest.fixture(scope="module")
def text_model() -> TextModel:
    return TextModel()


@pytest.fixture
def folder(tmp_path: Path, text_model: TextModel) -> Path:
    (tmp_path / "onnx").mkdir()
    text_model.save(tmp_path / "onnx")
    write_tokenizer(tmp_path)
    config = {"model_max_length": 8, "pad_token": {"content": "[PAD]"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def sentences(count: int, pairs: bool = False) -> list[tuple[str, ...]]:
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        lengths = [int(each) for each in random.integers(1, 3 if pairs else LENGTH, 1 + pairs)]
        made.append(tuple(" ".join(f"w{w}" for w in random.integers(4, WORDS, n)) for n in lengths))
    return made


def expected(samples: list[tuple[str, ...]], left: bool = False) -> dict[str, np.ndarray]:
    """Ids, mask and types written out by hand, each [n, longest]."""
    rows = []
    for texts in samples:
        ids, types = [1], [0]
        for place, text in enumerate(texts):
            words = [int(word[1:]) for word in text.split()] + [2]
            ids, types = ids + words, types + [place] * len(words)
        rows.append((ids, [1] * len(ids), types))
    longest = max(len(ids) for ids, _, _ in rows)
    pads = [[0] * (longest - len(ids)) for ids, _, _ in rows]
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {
        name: np.array(
            [pad + row[n] if left else row[n] + pad for row, pad in zip(rows, pads, strict=True)]
        )
        for n, name in enumerate(names)
    }


def model_of(folder: Path) -> Path:
    return next((folder / "onnx").glob("*.onnx"))


def answers(model: TextModel, inputs: dict[str, np.ndarray]) -> np.ndarray:
    ids = inputs["input_ids"]
    words = model.weights["table"][ids]
    logits = model.logits(words, ids, inputs["attention_mask"], inputs["token_type_ids"])
    return logits.argmax(axis=1)


def write(path: Path, samples: list[tuple[str, ...]], labels: np.ndarray) -> Path:
    names = ["sentence1", "sentence2"] if len(samples[0]) == 2 else ["text"]
    if path.suffix == ".csv":
        lines = [",".join([*names, "label"])]
        lines += [
            ",".join([*texts, str(label)]) for texts, label in zip(samples, labels, strict=True)
        ]
        path.write_text("\n".join(lines))
    elif path.suffix == ".jsonl":
        rows = [
            dict(zip([*names, "label"], [*texts, int(label)], strict=True))
            for texts, label in zip(samples, labels, strict=True)
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pa = pytest.importorskip("pyarrow")
        columns = {name: [texts[n] for texts in samples] for n, name in enumerate(names)}
        table = pa.table({"id": list(map(str, range(len(samples)))), **columns, "label": labels})
        if path.suffix == ".parquet":
            pytest.importorskip("pyarrow.parquet").write_table(table, path)
        else:
            with pa.ipc.new_stream(str(path), table.schema) as writer:
                writer.write_table(table, 7)
    return path


def opened(model: Path, data: Samples, **options: object) -> Experiment:
    setting = AttackSetting(device="cpu", **options)
    return open_experiment(open_classifier(model), data, setting, lambda stage, done, total: None)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".arrow"])
@pytest.mark.parametrize("pairs", [False, True])
def test_text_is_what_its_ids_are(
    folder: Path, text_model: TextModel, ending: str, pairs: bool
) -> None:
    samples = sentences(40, pairs)
    wanted = expected(samples)
    labels = answers(text_model, wanted)
    data = write(folder / f"d{ending}", samples, labels)
    found = opened(folder, data)
    inputs = found.dataset.inputs(np.arange(40))
    assert inputs.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(inputs[name], values)
    assert found.labels.tolist() == labels.tolist()
    names = ("sentence1", "sentence2") if pairs else ("text",)
    rows = [
        {"idx": n, **dict(zip(names, texts, strict=True)), "label": int(labels[n])}
        for n, texts in enumerate(samples)
    ]
    as_pairs = [(x if pairs else x[0], y) for x, y in zip(samples, labels, strict=True)]
    for yielded in (rows, as_pairs):
        assert opened(folder, yielded).dataset.sha256 == found.dataset.sha256
    some = opened(folder, data, limit=9).dataset
    # As long as where all are taken: what a sample is does not depend on the others.
    for name, values in some.inputs(np.arange(9)).items():
        np.testing.assert_array_equal(values, wanted[name][some.rows])


def test_a_verdict_on_text(folder: Path, text_model: TextModel) -> None:
    samples = sentences(40)
    inputs = expected(samples)
    labels = answers(text_model, inputs)
    np.savez(folder / "ids.npz", y=labels, **inputs)
    setting = EvaluateSetting(eps=0.1, attack="fgsm", device="cpu", accept_accuracy=True)
    of_text, of_ids = (
        evaluate(model_of(folder), data, setting).report.models[0]
        for data in (write(folder / "d.csv", samples, labels), folder / "ids.npz")
    )
    assert of_text.clean == of_ids.clean and of_text.clean.value == 1
    assert of_text.robust == of_ids.robust


def test_padding_and_truncation_as_the_files_say(folder: Path, text_model: TextModel) -> None:
    long = " ".join(f"w{number}" for number in range(4, 40))
    data = write(folder / "d.csv", [("w4 w5",), (long,)], np.array([0, 1]))

    def ids() -> np.ndarray:
        return opened(folder, data).dataset.inputs(np.arange(2))["input_ids"]

    assert ids().tolist() == [[1, 4, 5, 2, 0, 0, 0, 0], [1, 4, 5, 6, 7, 8, 9, 2]]
    padding = {
        "strategy": {"Fixed": 8}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 3, "pad_type_id": 0, "pad_token": "[UNK]",
    }  # fmt: skip
    truncation = {"direction": "Left", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    write_tokenizer(folder, padding=padding, truncation=truncation)
    assert ids().tolist() == [[3, 3, 3, 3, 1, 4, 5, 2], [3, 3, 3, 1, 37, 38, 39, 2]]
    write_tokenizer(
        folder, padding={**padding, "strategy": "BatchLongest", "pad_to_multiple_of": 4}
    )
    assert ids().shape == (2, 8)
    write_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    (folder / "config.json").write_text('{"max_position_embeddings": 7, "model_type": "roberta"}')
    with pytest.raises(ModelError, match="names no token for padding"):
        ids()
    (folder / "tokenizer_config.json").write_text('{"pad_token": "[PAD]", "padding_side": "left"}')
    assert ids().tolist() == [[0, 1, 4, 5, 2], [1, 4, 5, 6, 2]]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"tokenizer.json": None},
            "holds text, and the model takes ids: put the model's tokenizer",
        ),
        ({"tokenizer.json": "{}"}, "tokenizer.json can't be used as a tokenizer"),
        ({"tokenizer_config.json": "[]"}, "tokenizer_config.json is no JSON object"),
        ({"d.csv": "label,a,b\n1,x,y\n"}, "call that of the sentences 'text'"),
        ({"d.csv": "text\nw4\n"}, "has no column of labels"),
        ({"d.csv": "text,label\n"}, "holds no samples"),
        ({"d.csv": "text,label\nw4,7\n"}, "has label 7 but the model has 3 logits"),
    ],
)
def test_what_is_missing_is_one_line(folder: Path, files: dict[str, str | None], said: str) -> None:
    write(folder / "d.csv", [("w4 w5",), ("w6",)], np.array([0, 1]))
    for name, text in files.items():
        (folder / name).unlink() if text is None else (folder / name).write_text(text)
    with pytest.raises(CloakifyError, match=said) as caught:
        opened(folder, folder / "d.csv")
    assert "\n" not in str(caught.value)


def test_inspect_tells_of_the_tokenizer(folder: Path) -> None:
    assert inspect(folder).inputs == "ids, or text by tokenizer.json beside the model"
    (folder / "tokenizer.json").unlink()
    assert "take a tokenizer.json" in inspect(model_of(folder)).inputs


def test_without_the_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    data = write(folder / "d.csv", [("w4",), ("w6",)], np.array([0, 1]))
    with pytest.raises(DataError, match=r"pip install 'cloakify\[text\]'"):
        opened(folder, data)
