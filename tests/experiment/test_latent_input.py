"""Models of token ids and of bytes are attacked at their first floats, end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.attacks.pairs import attacked_pairs
from cloakify.errors import DataError, ModelError, UsageError
from cloakify.experiment.chosen_attacks import chosen_attack
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import Experiment, open_experiment
from cloakify.hardening.features import features_of
from cloakify.masking.linear_head import read_head
from cloakify.report import as_document, load_schema
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from cloakify.workflows.inspect import inspect
from cloakify.workflows.verify import verify
from tests.support.text_models import CLASSES, LENGTH, WIDTH, WORDS, TextModel

EPS = 0.1


@pytest.fixture(scope="module")
def text() -> TextModel:
    return TextModel()


@pytest.fixture(scope="module")
def files(text: TextModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return text.save(tmp_path_factory.mktemp("text"), samples=400)


def experiment_of(model: Path, data: Path, **changes: object) -> Experiment:
    setting = AttackSetting(device="cpu", eps=EPS, **changes)  # type: ignore[arg-type]
    return open_experiment(open_classifier(model), data, setting, lambda stage, done, total: None)


def test_logits_and_gradient_of_packed_samples(text: TextModel, files: tuple[Path, Path]) -> None:
    """NumPy computes the logits, and central differences in double the gradient."""
    experiment = experiment_of(*files)
    target, data = experiment.target(), np.load(files[1])
    (batch,) = experiment.dataset.batches(np.arange(5), 5)
    x = batch.x.astype(np.float32)
    ids, mask, types = (data[n][:5] for n in ("x", "attention_mask", "token_type_ids"))
    words = text.weights["table"][ids]
    np.testing.assert_allclose(target.logits(x), text.logits(words, ids, mask, types), atol=1e-4)
    assert experiment.latent is not None
    packing = experiment.latent.packing
    np.testing.assert_allclose(packing.tensor_of(x), words, atol=1e-6)

    def loss(values: np.ndarray) -> np.ndarray:
        z = text.logits(values, ids, mask, types)
        return np.log(np.exp(z).sum(axis=1)) - z[np.arange(5), batch.y]

    found = target.evaluate(x, batch.y)
    np.testing.assert_allclose(found.loss, loss(words), atol=1e-4)
    gradient = packing.tensor_of(found.gradient)
    for place in np.ndindex(LENGTH, WIDTH):
        step = np.zeros_like(words)
        step[(slice(None), *place)] = 1e-6
        numeric = (loss(words + step) - loss(words - step)) / 2e-6
        np.testing.assert_allclose(gradient[(slice(None), *place)], numeric, atol=1e-4)
    # Nothing flows to ids, types and mask.
    assert not found.gradient[:, LENGTH * WIDTH :].any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "apgd-t", "fab-t", "square"])
def test_attacks_move_words_alone_and_keep_to_the_budget(
    text: TextModel, files: tuple[Path, Path], norm: str, name: str
) -> None:
    eps = EPS if norm == "linf" else 1.0
    experiment = experiment_of(
        *files, norm=norm, attack=name, steps={"fgsm": None, "square": 300}.get(name, 20)
    )
    threat = experiment.threat.with_eps(eps)
    target = experiment.target()
    (batch,) = experiment.dataset.batches(np.arange(30), 30)
    x = batch.x.astype(np.float32)
    setting = experiment.setting
    assert isinstance(setting, AttackSetting)
    moved = chosen_attack(setting).run(target, x, batch.y, batch.index, threat)
    many = LENGTH * WIDTH
    # What is passed along may differ from 0 by what a whole number forgets.
    assert np.abs(moved[:, many:] - x[:, many:]).max() < 1e-20
    data = np.load(files[1])
    ids, mask, types = (data[n][:30] for n in ("x", "attention_mask", "token_type_ids"))
    words = text.weights["table"][ids]
    rms = np.sqrt(np.square(text.weights["table"][data["x"]]).mean())
    assert threat.factor[0, 0] == pytest.approx(rms, rel=0.05)
    offset = (moved[:, :many].reshape(words.shape) - words).reshape(30, -1) / threat.factor[0, 0]
    size = np.abs(offset).max(1) if norm == "linf" else np.linalg.norm(offset, axis=1)
    assert name == "fab-t" or (size <= eps * (1 + 1e-4) + 1e-6).all()
    logits = text.logits(moved[:, :many].reshape(words.shape), ids, mask, types)
    np.testing.assert_allclose(target.logits(moved), logits, atol=1e-3)
    assert (logits.argmax(1) != batch.y).mean() > 0.1


def test_inspection_and_report_say_what_is_perturbed(files: tuple[Path, Path]) -> None:
    found = inspect(files[0]).to_dict()
    assert found["perturbs"] == {
        "tensor": "words",
        "tensors": ["words"],
        "kind": "embedding",
        "node": "words",
        "op_type": "Gather",
    }
    assert found["other_inputs"] == ["token_type_ids", "attention_mask"]
    setting = EvaluateSetting(device="cpu", eps=(EPS,), attack="fgsm", limit=40, queries=5)
    report = evaluate([files[0]], files[1], setting).report
    assert "Gather 'words'" in report.perturbs
    assert "ε is relative to its root mean square" in report.perturbs


def test_attacked_words_fool_the_shipped_model(
    text: TextModel, files: tuple[Path, Path], tmp_path: Path
) -> None:
    """ONNX Runtime runs the shipped graph with a table of its own for every attacked sample."""
    output = tmp_path / "adv.npz"
    setting = AttackSetting(device="cpu", eps=0.3, attack="pgd", limit=20)
    result = attack(*files, output, setting)
    attacked, data = np.load(output), np.load(files[1])
    assert attacked["x"].shape == (20, LENGTH, WIDTH)
    assert str(attacked["tensor"]) == "words"
    right = []
    for words, label, row in zip(attacked["x"], attacked["y"], attacked["index"], strict=True):
        model = onnx.ModelProto()
        model.CopyFrom(text.model)
        ids = data["x"][row]
        # Row i+1 holds the i-th word, so that padding keeps its id.
        table = np.concatenate([np.zeros((1, WIDTH)), words]).astype(np.float32)
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(table, "table"))
        session = ort.InferenceSession(model.SerializeToString())
        fed = {n: data[n][row][None] for n in ("attention_mask", "token_type_ids")}
        fed["input_ids"] = np.where(ids == 0, 0, np.arange(LENGTH) + 1)[None]
        # A padded place shows row 0 instead, which the model hides.
        right.append(session.run(None, fed)[0].argmax() == label)
    assert np.mean(right) == result.attacked.value < result.clean.value


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_ratio": 0.1, "score": "deepcloak"},
        {"method": "tuned", "tune_steps": 100, "max_accuracy_drop": 0.5, "write_anyway": True},
    ],
)
def test_hardening_a_text_classifier(
    files: tuple[Path, Path], tmp_path: Path, changes: dict[str, object]
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    setting = HardenSetting(
        device="cpu",
        eps=0.2,
        evaluation_steps=3,
        **changes,  # type: ignore[arg-type]
    )
    output = tmp_path / "out.onnx"
    result = harden(*files, output, setting)
    assert verify(output, files[0]).faults == ()
    document = as_document(result.report)
    jsonschema.validate(document, load_schema())
    assert "Gather 'words'" in document["perturbs"]
    compared = EvaluateSetting(device="cpu", eps=(EPS,), attack="fgsm", limit=40, queries=5)
    assert len(evaluate([files[0], output], files[1], compared).report.models) == 2
    # A hardened model of ids can be hardened anew and inspected like any other.
    assert inspect(output).masked is not None


def test_models_of_other_tables_are_not_compared(files: tuple[Path, Path], tmp_path: Path) -> None:
    (other, _) = TextModel(seed=5).save(tmp_path)
    setting = EvaluateSetting(device="cpu", eps=(EPS,), attack="fgsm", limit=40)
    with pytest.raises(UsageError, match="turn the same ids into other values"):
        evaluate([files[0], other], files[1], setting)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"attention_mask": None}, DataError, "the model also takes 'attention_mask'"),
        (
            {"attention_mask": np.ones((3, 6), np.int64)},
            DataError,
            "has 3 rows of 'attention_mask' but there are 400",
        ),
        ({"x": np.full((400, 6), WORDS)}, DataError, f"holds id {WORDS}, but the table .* 50 rows"),
        ({"x": np.zeros((400, 6), np.float32)}, DataError, "holds float32 .* takes int64"),
        ({"token_type_ids": np.full((400, 6), 1 << 25)}, (DataError, ModelError), "2\\^24|bounds"),
    ],
)
def test_data_that_does_not_fit(
    files: tuple[Path, Path],
    tmp_path: Path,
    change: dict[str, np.ndarray | None],
    error: type[Exception],
    message: str,
) -> None:
    arrays = {**np.load(files[1]), **change}
    data = tmp_path / "data.npz"
    np.savez(data, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(error, match=message):
        experiment_of(files[0], data)


def test_whole_numbers_of_other_types_are_taken(files: tuple[Path, Path], tmp_path: Path) -> None:
    arrays = {name: array.astype(np.int16) for name, array in np.load(files[1]).items()}
    np.savez(tmp_path / "small.npz", **arrays)
    small, large = experiment_of(files[0], tmp_path / "small.npz"), experiment_of(*files)
    (one,), (other,) = (s.dataset.batches(np.arange(4), 4) for s in (small, large))
    np.testing.assert_array_equal(one.x, other.x)


def test_pixels_are_no_unit_of_ids(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="are for pixels; input 'input_ids' takes ids"):
        experiment_of(*files, mean="0.5")


def test_a_model_of_a_fixed_batch_size(
    text: TextModel, files: tuple[Path, Path], tmp_path: Path
) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(text.model)
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, (3, LENGTH), strict=True):
            dim.dim_value = size
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
    path = tmp_path / "fixed.onnx"
    onnx.save(model, path)
    fixed, free = experiment_of(path, files[1]), experiment_of(*files)
    (batch,) = free.dataset.batches(np.arange(7), 7)
    (other,) = fixed.dataset.batches(np.arange(7), 7)
    np.testing.assert_array_equal(batch.x, other.x)
    x = batch.x.astype(np.float32)
    np.testing.assert_allclose(fixed.target().logits(x), free.target().logits(x), atol=1e-5)
    first, second = (s.target().evaluate(x, batch.y).gradient for s in (fixed, free))
    np.testing.assert_allclose(first, second, atol=1e-5)


BYTES = f"""
<ir_version: 8, opset_import: ["" : 17]>
pixels (uint8[N, 1, 8, 8] image) => (float[N, {CLASSES}] logits)
{{
    numbers = Cast <to = 1> (image)
    scaled = Mul (numbers, small)
    maps = Conv <pads = [1, 1, 1, 1]> (scaled, kernel)
    active = Relu (maps)
    features = Flatten (active)
    logits = Gemm <transB = 1> (features, weight)
}}"""


@pytest.fixture
def bytes_files(tmp_path: Path) -> tuple[Path, Path]:
    random = np.random.default_rng(0)
    model = onnx.parser.parse_model(BYTES)
    weights = {
        "small": np.array(1 / 255),
        "kernel": random.standard_normal((2, 1, 3, 3)),
        "weight": random.standard_normal((CLASSES, 128)),
    }
    for name, values in weights.items():
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(tensor)
    x = random.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    y = ort.InferenceSession(model.SerializeToString()).run(None, {"image": x})[0].argmax(1)
    onnx.save(model, tmp_path / "bytes.onnx")
    np.savez(tmp_path / "bytes.npz", x=x, y=y)
    return tmp_path / "bytes.onnx", tmp_path / "bytes.npz"


def test_bytes_are_attacked_as_pixels(bytes_files: tuple[Path, Path], tmp_path: Path) -> None:
    setting = AttackSetting(device="cpu", eps=40 / 255, attack="pgd")
    result = attack(*bytes_files, tmp_path / "adv.npz", setting)
    attacked, clean = np.load(tmp_path / "adv.npz"), np.load(bytes_files[1])
    distance = np.abs(attacked["x"] - clean["x"].astype(np.float32)).max()
    assert 39 < distance <= 40 + 1e-4
    assert attacked["x"].min() >= 0
    assert attacked["x"].max() <= 255
    assert result.attacked.value < result.clean.value == 1
    experiment = experiment_of(*bytes_files)
    assert experiment.perturbs.endswith("the attacked values need not be whole numbers")
    assert experiment.spec.channel_axis == 1


CAUSAL = f"""
<ir_version: 8, opset_import: ["" : 17]>
text (int64[N, {LENGTH}] input_ids) => (float[N, {CLASSES}] logits)
{{
    words = Gather (table, input_ids)
    one = Constant <value_int: int = 1> ()
    past = CumSum (words, one)
    active = Tanh (past)
    scores = MatMul (active, weight)
    pad = Constant <value_int: int = 0> ()
    is_pad = Equal (input_ids, pad)
    not_pad = Not (is_pad)
    kept = Cast <to = 7> (not_pad)
    count = ReduceSum <keepdims = 1> (kept, axis)
    last = Sub (count, one)
    logits = GatherND <batch_dims = 1> (scores, last)
}}"""


def test_hardening_a_model_that_answers_at_its_last_token(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    model = onnx.parser.parse_model(CAUSAL)
    weights = {
        "table": random.standard_normal((WORDS, WIDTH)).astype(np.float32),
        "weight": random.standard_normal((WIDTH, CLASSES)).astype(np.float32),
        "axis": np.array([1]),
    }
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    ids = random.integers(1, WORDS, (300, LENGTH))
    length = random.integers(2, LENGTH + 1, 300)
    ids[np.arange(LENGTH) >= length[:, None]] = 0
    states = np.tanh(np.cumsum(weights["table"][ids], axis=1))[np.arange(300), length - 1]
    y = (states @ weights["weight"]).argmax(axis=1)
    path, data = tmp_path / "causal.onnx", tmp_path / "data.npz"
    onnx.save(model, path)
    np.savez(data, x=ids, y=y)
    experiment = experiment_of(path, data)
    target = experiment.target()
    setting = experiment.setting
    assert isinstance(setting, AttackSetting)
    kept = np.arange(100)
    batch = experiment.dataset.batch(kept)
    pairs = attacked_pairs(target, chosen_attack(setting), experiment.threat, batch)
    rank = pairs.clean_features.ndim
    linear = read_head(experiment.classifier.model, experiment.classifier.head, rank)
    clean, _ = features_of(pairs, experiment, linear)
    np.testing.assert_allclose(clean, states[pairs.index], atol=1e-5)
    options = {"device": "cpu", "eps": EPS, "max_accuracy_drop": 0.5, "evaluation_steps": 3}
    found = harden(path, data, tmp_path / "out.onnx", HardenSetting(**options))
    assert found.report.accuracy.source.clean.value == 1
