"""Token ids that a model turns before it looks them up, or that data give turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.errors import ModelError
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import Experiment, open_experiment
from cloakify.settings import AttackSetting
from tests.support.text_models import CLASSES, WIDTH, WORDS

TEXT_TURNED = f"""
<ir_version: 8, opset_import: ["" : 17]>
text (int64[N, L] input_ids) => (float[N, {CLASSES}] logits)
{{
    turned = Transpose <perm = [1, 0]> (input_ids)
    all = Constant <value_ints: ints = [-1]> ()
    back = Constant <value_ints: ints = [4, -1, {WIDTH}]> ()
    WORDS
    zero = Constant <value_ints: ints = [0]> ()
    active = Tanh (lines)
    features = ReduceSum <keepdims = 0> (active, zero)
    logits = Gemm <transB = 1> (features, weight)
}}"""


def experiment_of(model: Path, data: Path) -> Experiment:
    setting = AttackSetting(device="cpu", eps=0.1)
    return open_experiment(open_classifier(model), data, setting, lambda stage, done, total: None)


def turned_files(folder: Path, words: str) -> tuple[Path, Path, np.ndarray, dict[str, np.ndarray]]:
    """Save a model of turned ids, and data, as many words as samples are tried."""
    random = np.random.default_rng(0)
    model = onnx.parser.parse_model(TEXT_TURNED.replace("WORDS", words))
    weights = {}
    for name, shape in {"table": (WORDS, WIDTH), "weight": (CLASSES, WIDTH)}.items():
        weights[name] = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights[name], name))
    path, data = folder / "turned.onnx", folder / "data.npz"
    onnx.save(model, path)
    ids = random.integers(0, WORDS, (40, 4))
    np.savez(data, x=ids, y=np.zeros(40, np.int64))
    return path, data, ids, weights


def test_a_tensor_that_only_looks_as_if_it_counted_samples(tmp_path: Path) -> None:
    """Words come first along [L·N]: cut there, samples would be mixed."""
    words = "flat = Reshape (turned, all) words = Gather (table, flat)"
    path, data, _, _ = turned_files(tmp_path, f"{words} lines = Reshape (words, back)")
    with pytest.raises(ModelError, match="do not follow from the output of Gather 'words'"):
        experiment_of(path, data)


@pytest.mark.parametrize("turned", ["ids", "words"])
def test_ids_are_turned_to_words_first(tmp_path: Path, turned: str) -> None:
    """[L, N, D], as XLNet has them; and ids that are given as [L, N], as torch's older texts."""
    path, data, ids, weights = turned_files(tmp_path, "lines = Gather (table, turned)")
    if turned == "ids":
        model = onnx.load(path)
        del model.graph.node[0]
        for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, "LN", strict=True):
            dim.dim_param = name
        (lookup,) = [node for node in model.graph.node if node.op_type == "Gather"]
        lookup.input[1] = "input_ids"
        onnx.save(model, path)
    experiment = experiment_of(path, data)
    (batch,) = experiment.dataset.batches(np.arange(7), 7)
    x = batch.x.astype(np.float32)
    np.testing.assert_allclose(x, weights["table"][ids[:7]])
    active = np.tanh(x)
    logits = active.sum(axis=1) @ weights["weight"].T
    found = experiment.target().evaluate(x, batch.y)
    np.testing.assert_allclose(found.logits, logits, atol=1e-4)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (shares - np.eye(CLASSES)[batch.y]) @ weights["weight"]
    np.testing.assert_allclose(found.gradient, (1 - active**2) * slope[:, None], atol=1e-4)
