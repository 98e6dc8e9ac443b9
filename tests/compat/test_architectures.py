"""The gradient of exported architectures in ONNX Runtime agrees with torch autograd.

``pytest -m compat tests/compat/test_architectures.py`` prints a table at the end; it takes an hour
on two cores. What is not installed is skipped: ``pip install torch torchvision timm transformers
scikit-learn skl2onnx``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is the oracle here")

from cloakify.graph.attack_steps.build import (  # noqa: E402
    GRADIENT,
    LOGITS,
    LOGITS_GRADIENT,
)
from tests.compat.support import (  # noqa: E402
    oracle,
    timm_models,
    torchvision_models,
    transformers_models,
)

pytestmark = pytest.mark.compat

Record = Callable[[str, object], None]

# The model in both precisions, its file's message, the gradient's and the session.
BYTES_PER_PARAMETER = 28
# Of central differences: far above rounding, and below the distance of most kinks.
STEP, DIFFERENCE_TOLERANCE = 1e-2, 2e-2
CAFFE2 = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def listed(names: Callable[[], list[str]]) -> list[str]:
    """Return names to parametrise over; none where the library that lists them is missing."""
    try:
        return names()
    except pytest.skip.Exception:
        return []


def check(
    model: Any, size: int, name: str, exporters: list[oracle.Exporter], folder: Path, note: Record
) -> None:
    """Hold one model to the tolerance through the first exporter that can write it."""
    x = np.random.default_rng(oracle.seed_of(name)).standard_normal((2, 3, size, size))
    x = x.astype(np.float32)
    exporter, exported = oracle.export_by_any(model, x, exporters, folder)
    note("exporter", exporter)
    found = oracle.compare(model, exported, x)
    note("error", str(found))
    assert found.wrong == 0, f"beyond {oracle.TOLERANCE:g} and no kink: {found}"


@pytest.mark.parametrize("name", listed(torchvision_models.names))
def test_torchvision(name: str, tmp_path: Path, record_property: Record) -> None:
    record_property("family", "torchvision")
    record_property("model", name)
    skip_without_memory(torchvision_models.parameters(name))
    model, size = torchvision_models.make(name)
    check(model, size, name, ["TorchScript", "dynamo"], tmp_path, record_property)


@pytest.mark.parametrize("name", torchvision_models.BY_DYNAMO)
def test_torchvision_by_dynamo(name: str, tmp_path: Path, record_property: Record) -> None:
    record_property("family", "torchvision by dynamo")
    record_property("model", name)
    model, size = torchvision_models.make(name)
    check(model, size, name, ["dynamo"], tmp_path, record_property)


@pytest.mark.parametrize("family", listed(timm_models.families))
def test_timm(family: str, tmp_path: Path, record_property: Record) -> None:
    record_property("family", "timm")
    name = timm_models.FAMILIES.get(family, (family, 0))[0]
    record_property("model", name if name == family else f"{family}: {name}")
    model, size = timm_models.make(family)
    check(model, size, name, ["TorchScript", "dynamo"], tmp_path, record_property)


@pytest.mark.parametrize("name", transformers_models.CONFIGURATIONS)
def test_transformers(name: str, tmp_path: Path, record_property: Record) -> None:
    record_property("family", "transformers")
    record_property("model", name)
    model, size = transformers_models.make(name)
    check(model, size, name, ["TorchScript", "dynamo"], tmp_path, record_property)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("classes", [2, 5])
def test_scikit_learn(activation: str, classes: int, record_property: Record) -> None:
    record_property("family", "scikit-learn")
    record_property("model", f"MLPClassifier {activation}, {classes} classes")
    network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    record_property("exporter", "skl2onnx")
    random = np.random.default_rng(0)
    x, y = random.standard_normal((60, 6)), np.arange(60) % classes
    mlp = network.MLPClassifier((8, 7), activation=activation, max_iter=20, random_state=0)
    with warnings.catch_warnings():
        # It need not converge here.
        warnings.simplefilter("ignore")
        mlp.fit(x, y)
    kind = skl2onnx.common.data_types.FloatTensorType([None, 6])
    model = skl2onnx.to_onnx(mlp, initial_types=[("x", kind)], options={"zipmap": False})
    x32 = x[:8].astype(np.float32)
    session = oracle.gradient_session(model, x32, loss=None)
    # Two classes share one logit.
    logits = np.ones((8, 1 if classes == 2 else classes), dtype=np.float32)
    found = session.run({session.inputs[0]: x32, LOGITS_GRADIENT: logits}, [GRADIENT])[GRADIENT]
    error = oracle.relative(found, mlp_gradient(mlp, x32.astype(np.float64))).max()
    record_property("error", f"{error:.1e}")
    assert error < oracle.TOLERANCE


def mlp_gradient(mlp: Any, x: oracle.Array) -> oracle.Array:
    """Return the gradient of the sum of the network's logits with respect to its input."""
    slopes = []
    value = x
    for weight, bias in zip(mlp.coefs_[:-1], mlp.intercepts_[:-1], strict=True):
        z = value @ weight + bias
        value = {
            "identity": z,
            "logistic": 1 / (1 + np.exp(-z)),
            "tanh": np.tanh(z),
            "relu": np.maximum(z, 0),
        }[mlp.activation]
        slopes.append(
            {
                "identity": np.ones_like(z),
                "logistic": value * (1 - value),
                "tanh": 1 - value**2,
                "relu": (z > 0).astype(np.float64),
            }[mlp.activation]
        )
    gradient = np.tile(mlp.coefs_[-1].sum(axis=1), (len(x), 1))
    for weight, slope in zip(mlp.coefs_[-2::-1], slopes[::-1], strict=True):
        gradient = (gradient * slope) @ weight.T
    return gradient


@pytest.mark.parametrize("path", sorted(CAFFE2.glob("*.onnx")), ids=lambda path: path.stem)
def test_caffe2(path: Path, record_property: Record) -> None:
    """As shipped all weights are equal: that is to run; what it computes is held with others."""
    record_property("family", "Caffe2")
    record_property("model", path.stem.removeprefix("light_"))
    record_property("exporter", "Caffe2")
    random = np.random.default_rng(oracle.seed_of(path.stem))
    shipped = onnx.load(path)
    x = random.standard_normal((1, 3, 224, 224)).astype(np.float32)
    weights = random.standard_normal((1, 1000)).astype(np.float32)
    session = oracle.gradient_session(shipped, x, loss=None)
    feeds = {session.inputs[0]: x, LOGITS_GRADIENT: weights}
    assert all(np.isfinite(array).all() for array in session.run(feeds).values())

    session = oracle.gradient_session(with_random_weights(shipped, random), x, loss=None)
    found = session.run(feeds, [GRADIENT])[GRADIENT]
    slope = np.linalg.norm(found)
    ahead, behind = (
        np.vdot(session.run(feeds | {session.inputs[0]: moved}, [LOGITS])[LOGITS], weights)
        for moved in (x + STEP * found / slope, x - STEP * found / slope)
    )
    error = abs((ahead - behind) / (2 * STEP) / slope - 1)
    record_property("error", f"{error:.1e} (central difference)")
    assert error < DIFFERENCE_TOLERANCE


def with_random_weights(model: onnx.ModelProto, random: np.random.Generator) -> onnx.ModelProto:
    """Replace the filled constants: layers keep the scale of what they pass on."""
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    weights = {
        node.output[0]: shapes[node.input[0]]
        for node in model.graph.node
        if node.op_type == "ConstantOfShape"
    }
    kept = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for name, shape in weights.items():
        if len(shape) > 1:
            array = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            # Scales and variances are among them.
            array = random.uniform(0.5, 1.5, shape)
        tensor = onnx.numpy_helper.from_array(array.astype(np.float32), name)
        model.graph.initializer.append(tensor)
    return model


def skip_without_memory(parameters: int) -> None:
    """Skip a model that would not fit into the memory there is, where the system tells."""
    told = Path("/proc/meminfo")
    if not told.exists():
        return
    # In KiB, with what the system would give back of the files it keeps at hand.
    (free,) = (
        1024 * int(line.split()[1])
        for line in told.read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    needed = parameters * BYTES_PER_PARAMETER
    if needed > free:
        pytest.skip(f"needs {needed / 2**30:.0f} GiB of memory, {free / 2**30:.0f} are free")
