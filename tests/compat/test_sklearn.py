"""scikit-learn's classifiers as skl2onnx exports them: hardened, or judged and refused truly.

Each is tried with two classes and with four, with and without `ZipMap`; three of them behind every
scaler. Wrong is whatever is neither of these: an error that blames the file, a proof that fails, a
model that is not recognised.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

pytest.importorskip("skl2onnx")
from skl2onnx import to_onnx
from sklearn import preprocessing
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils import all_estimators

from cloakify.errors import HeadError, NoGradientError
from cloakify.settings import EvaluateSetting, HardenSetting
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify

pytestmark = pytest.mark.compat

EPS, SAMPLES = 0.05, 160
_PAIR = [("a", LogisticRegression()), ("b", GaussianNB())]
# What can't be made without arguments, or is made small.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "AdaBoostClassifier": {"n_estimators": 3},
    "BaggingClassifier": {"n_estimators": 3},
    "ExtraTreesClassifier": {"n_estimators": 5},
    "FixedThresholdClassifier": {"estimator": LogisticRegression()},
    "GradientBoostingClassifier": {"n_estimators": 3},
    "HistGradientBoostingClassifier": {"max_iter": 3},
    "MLPClassifier": {"hidden_layer_sizes": (16,), "max_iter": 80},
    "NuSVC": {"nu": 0.1},
    "OneVsOneClassifier": {"estimator": LogisticRegression()},
    "OneVsRestClassifier": {"estimator": LogisticRegression()},
    "OutputCodeClassifier": {"estimator": LogisticRegression()},
    "QuadraticDiscriminantAnalysis": {"reg_param": 0.3},
    "RandomForestClassifier": {"n_estimators": 5},
    "SelfTrainingClassifier": {"estimator": LogisticRegression()},
    "StackingClassifier": {"estimators": _PAIR},
    "TunedThresholdClassifierCV": {"estimator": LogisticRegression()},
    "VotingClassifier": {"estimators": _PAIR, "voting": "soft", "flatten_transform": False},
}
KERNELS = {
    f"SVC {kernel}{', probabilities' * shares}": SVC(kernel=kernel, probability=shares)
    for kernel in ("linear", "poly", "rbf", "sigmoid")
    for shares in (False, True)
}
_SEVERAL = [("a", LogisticRegression()), ("b", LogisticRegression(C=0.01))]
# Of which one mask stands before all.
LINEAR = {
    "BaggingClassifier, linear": BaggingClassifier(LogisticRegression(), n_estimators=3),
    "VotingClassifier, linear": VotingClassifier(_SEVERAL, voting="soft", flatten_transform=False),
}
# Several outputs at once: no classifier of one answer.
SEVERAL = {"ClassifierChain", "MultiOutputClassifier"}
CLASSIFIERS = (
    {name: kind for name, kind in all_estimators("classifier") if name not in SEVERAL}
    | KERNELS
    | LINEAR
)
SCALERS = {
    "StandardScaler": preprocessing.StandardScaler(),
    "MinMaxScaler": preprocessing.MinMaxScaler(),
    "MaxAbsScaler": preprocessing.MaxAbsScaler(),
    "RobustScaler": preprocessing.RobustScaler(),
    "Normalizer": preprocessing.Normalizer(),
    "PolynomialFeatures": preprocessing.PolynomialFeatures(degree=1),
    "SimpleImputer": SimpleImputer(),
}
BEHIND = {
    "LogisticRegression": LogisticRegression(),
    "MLPClassifier": MLPClassifier(hidden_layer_sizes=(16,), max_iter=80),
    "SVC linear": SVC(kernel="linear"),
}


def digits(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return handwritten digits 0, 1, …, with pixels in [0, 1]; some are never lit."""
    x, y = load_digits(n_class=classes, return_X_y=True)
    return (x / 16).astype(np.float32), y


def exported(model: Any, x: np.ndarray, zipmap: bool) -> onnx.ModelProto:
    """Export a fitted model; skip what the exporter does not take."""
    for options in ({"zipmap": zipmap}, None):
        if options is None and zipmap:
            break
        try:
            return to_onnx(model, x[:1], options=options, target_opset=17)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the exporter's)
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:90]
    pytest.skip(f"not exported: {reason}")


def fitted(model: Any, x: np.ndarray, y: np.ndarray) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return model.fit(x, y)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is scikit-learn's)
            pytest.skip(f"not fitted: {error}"[:90])


def outcome(model: onnx.ModelProto, x: np.ndarray, y: np.ndarray, folder: Path) -> str:
    """Harden the file, or where there is no place for a mask judge it; say which."""
    path, data, out = folder / "m.onnx", folder / "d.npz", folder / "h.onnx"
    onnx.save(model, path)
    np.savez(data, x=x[:SAMPLES], y=y[:SAMPLES])
    try:
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        for fed in (x[:SAMPLES], np.zeros_like(x), np.ones_like(x)):
            session.run(None, {session.get_inputs()[0].name: fed})
    except Exception as error:  # noqa: BLE001 (ONNX Runtime's errors have no common base)
        pytest.skip(f"ONNX Runtime can't run it: {error}".splitlines()[0][:120])
    shared = {"device": "cpu", "accept_accuracy": True}
    setting = HardenSetting(eps=EPS, mask_ratio=0.1, evaluation_steps=2, score="margin", **shared)
    try:
        harden(path, data, out, setting)
    except (HeadError, NoGradientError) as error:
        reason = str(error)
    else:
        assert verify(out, path, "cpu").faults == ()
        return "hardened"
    square = {"attack": "square", "queries": 20}
    report = evaluate(path, data, EvaluateSetting(eps=(EPS,), limit=60, **shared, **square)).report
    assert report.models[0].clean.value > 0.4
    return f"judged: {reason.split(': ', 1)[-1][:90]}"


@pytest.mark.parametrize("zipmap", [False, True], ids=["", "ZipMap"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name, classes, zipmap, tmp_path, record_property):
    record_property("family", "scikit-learn")
    record_property("model", f"{name}, {classes} classes")
    record_property("exporter", "skl2onnx" + ", ZipMap" * zipmap)
    kind = CLASSIFIERS[name]
    model = kind(**ARGUMENTS.get(name, {})) if isinstance(kind, type) else kind
    x, y = digits(classes)
    found = outcome(exported(fitted(model, x, y), x, zipmap), x, y, tmp_path)
    record_property("error", found)


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", BEHIND)
def test_behind_a_scaler(name, classes, scaler, tmp_path, record_property):
    record_property("family", "scikit-learn, scaled")
    record_property("model", f"{name} behind {scaler}, {classes} classes")
    x, y = digits(classes)
    model = fitted(make_pipeline(SCALERS[scaler], BEHIND[name]), x, y)
    found = outcome(exported(model, x, False), x, y, tmp_path)
    record_property("error", found)
    assert found == "hardened"
