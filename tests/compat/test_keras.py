"""The gradient of keras.applications, exported by Keras, agrees with TensorFlow's.

``pytest -m compat tests/compat/test_keras.py`` prints a table at the end; it takes some minutes on
two cores. ``pip install tensorflow-cpu tf2onnx``, for which an environment of its own is best.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.attack_steps.build import GRADIENT, LABELS, GradientSpec, build_gradient
from cloakify.runtime import Device, Session
from tests.compat.support.agreement import TOLERANCE, Array, relative

pytestmark = pytest.mark.compat

# One of each family, and the smallest images that it takes.
SIZES = {
    "ConvNeXtTiny": 64,
    "DenseNet121": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "InceptionResNetV2": 80,
    "InceptionV3": 80,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "NASNetMobile": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "VGG16": 64,
    "Xception": 80,
}
SAMPLES, CLASSES = 3, 10


@pytest.fixture
def keras() -> Any:
    pytest.importorskip("tensorflow", reason="TensorFlow is the oracle here")
    pytest.importorskip("tf2onnx", reason="Keras exports by tf2onnx")
    return pytest.importorskip("keras")


def make(keras: Any, name: str, kind: str) -> Any:
    """Return a model with seeded random weights, the same in both precisions but for rounding."""
    keras.backend.clear_session()
    keras.config.set_floatx(kind)
    keras.utils.set_random_seed(0)
    size = SIZES[name]
    # Rescaling within the model would only make the input's unit another one.
    has_own = name.startswith(("MobileNetV3", "ConvNeXt", "EfficientNetV2"))
    own = {"include_preprocessing": False} if has_own else {}
    family = getattr(keras.applications, name)
    return family(weights=None, classes=CLASSES, input_shape=(size, size, 3), **own)


def gradient_of(model: Any, x: Array, labels: Array) -> Array:
    """TensorFlow's gradient of the cross-entropy, summed over the samples."""
    import tensorflow as tf

    point = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(point)
        answer = model(point, training=False)
        loss = -tf.reduce_sum(tf.math.log(tf.gather(answer, labels, axis=1, batch_dims=1)))
    found: Array = tape.gradient(loss, point).numpy()
    return found


def untranslated(model: onnx.ModelProto) -> str:
    """Say what Keras's exporter has left of TensorFlow in a model; nothing where all is well."""
    unknown = {node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type)}
    if unknown:
        return f"{', '.join(sorted(unknown))} is no operator"
    if len(model.graph.input) > 1:
        return f"constants are left as inputs: {', '.join(v.name for v in model.graph.input[1:])}"
    return ""


@pytest.mark.parametrize("name", SIZES)
def test_keras_applications(
    name: str, keras: Any, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("family", "keras.applications")
    record_property("model", name)
    record_property("exporter", "Keras")
    model = make(keras, name, "float32")
    size = SIZES[name]
    x = np.random.default_rng(0).random((SAMPLES, size, size, 3), np.float32)
    labels = np.arange(SAMPLES)
    single = gradient_of(model, x, labels)
    path = tmp_path / "model.onnx"
    model.export(path, format="onnx", verbose=False)
    wide = make(keras, name, "float64")
    wide.set_weights([weights.astype(np.float64) for weights in model.get_weights()])
    exact = gradient_of(wide, x.astype(np.float64), labels)
    keras.config.set_floatx("float32")
    exported = onnx.load(path)
    refused = untranslated(exported)
    if refused:
        pytest.skip(f"not exportable ({refused})")
    spec = GradientSpec(find_input(exported).name, find_head(exported).head.logits)
    session = Session(build_gradient(exported, {spec.input: x.shape}, spec), Device("cpu"))
    found = session.run({spec.input: x, LABELS: labels}, [GRADIENT])[GRADIENT]
    error, own = relative(found, exact), relative(single, exact)
    record_property("error", f"{error.max():.1e} (TensorFlow in single precision {own.max():.1e})")
    assert np.linalg.norm(exact) > 0
    # At a kink single precision may take the other side; TensorFlow's does too, then.
    assert (error < np.maximum(TOLERANCE, 3 * own)).all()
