"""Models with several outputs that hold scores: said is which one is taken, and which one fits.

What is told of an output is what ONNX Runtime makes of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper

from cloakify.cli.main import run
from cloakify.errors import DataError
from cloakify.graph.analysis.classifier_search import Wanted, find_classifier
from cloakify.settings import EvaluateSetting
from cloakify.workflows.evaluate import evaluate

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.normal(size=(6, 16)),
    "v": RNG.normal(size=(16, 5)),
    "g": np.eye(5, 2),
}
X = RNG.random((60, 6), np.float32)
SETTING = EvaluateSetting(eps=(0.05,), box=None, effort="quick", device="cpu")


def model_of(fine: str = "fine", coarse: str = "coarse", last: str = "") -> ModelProto:
    """Return a model whose scores of two classes are made of those of five."""
    told = "p" if last else fine
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[N, 6] x) => (float[N, 5] {told}, '
        f"float[N, 2] {coarse}) {{ a = MatMul (x, w)  r = Relu (a)  {fine} = MatMul (r, v) "
        f"{f'p = {last} ({fine})' if last else ''}  {coarse} = MatMul ({told}, g) }}"
    )
    for name, values in WEIGHTS.items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return model


def answered(model: ModelProto, output: str) -> np.ndarray:
    (scores,) = ort.InferenceSession(model.SerializeToString()).run([output], {"x": X})
    return np.asarray(scores).argmax(axis=1)


@pytest.mark.parametrize("last", ["", "Softmax", "Identity"])
def test_labels_of_another_output_name_it(tmp_path: Path, last: str) -> None:
    model, path, data = model_of(last=last), tmp_path / "m.onnx", tmp_path / "d.npz"
    other = "p" if last else "fine"
    onnx.save(model, path)
    np.savez(data, x=X, y=answered(model, other))
    with pytest.raises(DataError, match=f"output 'coarse'; --output-name {other} takes"):
        evaluate([path], data, setting=SETTING)
    asked = SETTING.replace(output_name=other)
    assert evaluate([path], data, setting=asked).report.models[0].clean.value == 1


def test_labels_that_fit_no_output_name_none(tmp_path: Path) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    onnx.save(model_of(), path)
    np.savez(data, x=X, y=np.arange(60) % 9)
    with pytest.raises(DataError) as raised:
        evaluate([path], data, setting=SETTING)
    assert "--output-name" not in str(raised.value)


def test_which_output_is_taken_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path, data = model_of(), tmp_path / "m.onnx", tmp_path / "d.npz"
    onnx.save(model, path)
    np.savez(data, x=X, y=answered(model, "coarse"))
    said = "the answer is output 'coarse'; --output-name takes another: 'fine' (5 scores)"
    assert said in evaluate([path], data, setting=SETTING).notes
    assert run(["inspect", str(path)]) == 0
    assert said in capsys.readouterr().out


def test_low_accuracy_names_the_other_output(tmp_path: Path) -> None:
    """Labels of the fine classes may all be 0 and 1, and the coarse ones be others."""
    path, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    onnx.save(model_of(), path)
    np.savez(data, x=X, y=np.arange(60) % 2)
    with pytest.raises(DataError, match="another: 'fine'"):
        evaluate([path], data, setting=SETTING)


@pytest.mark.parametrize(
    ("fine", "coarse", "others"),
    [
        ("fine", "coarse", (("fine", 5),)),
        ("fine_logits", "logits_coarse", (("fine_logits", 5),)),
        ("features", "coarse", ()),
        ("tied", "coarse_logits", ()),
    ],
)
def test_features_that_are_given_out_are_no_other_answer(
    fine: str, coarse: str, others: tuple[tuple[str, int], ...]
) -> None:
    assert find_classifier(model_of(fine, coarse)).outputs.others == others
    # Who names one has chosen.
    assert find_classifier(model_of(fine, coarse), Wanted(output=coarse)).outputs.others == ()


def test_probabilities_of_the_answer_are_no_other_answer() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 6] x) => (float[N, 16] y, '
        "float[N, 16] p, int64[N, 1] k, float[N, 16] r) { y = MatMul (x, w)  p = Softmax (y) "
        "k = ArgMax <axis = 1> (y)  r = Relu (x) }".replace("r = Relu (x)", "r = Identity (y)")
    )
    tensor = numpy_helper.from_array(WEIGHTS["w"].astype(np.float32), "w")
    model.graph.initializer.append(tensor)
    assert find_classifier(model).outputs.others == ()
