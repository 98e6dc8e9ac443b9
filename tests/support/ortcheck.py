"""Check that ONNX Runtime, in float, computes what the reference evaluator computes in double."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from tests.support.gradcheck import check_gradient, gradient_model
from tests.support.reference_ops import OPS


def check_both(
    text: str,
    feeds: Mapping[str, np.ndarray],
    wanted: Sequence[str] | None = None,
    *,
    seed: int = 0,
    tolerance: float = 2e-4,
    since: str = "0",
) -> None:
    """Assert the rules' gradient by central differences, and that the runtime agrees in float.

    ``text`` is a model whose floating tensors are double; the runtime runs it with float in their
    place, since it has few operators in double. Releases before ``since`` are not asked: they get
    the model itself wrong, or refuse it.
    """
    check_gradient(text, feeds, wanted, seed=seed)
    if release(ort.__version__) >= release(since):
        check_runtime(text, feeds, wanted, seed=seed, tolerance=tolerance)


def release(version: str) -> tuple[int, ...]:
    """Return major and minor of a version."""
    return tuple(int(part) for part in version.split(".")[:2])


def check_runtime(
    text: str,
    feeds: Mapping[str, np.ndarray],
    wanted: Sequence[str] | None = None,
    *,
    seed: int = 0,
    tolerance: float = 2e-4,
) -> None:
    """Assert that the runtime's output and gradient in float are the reference's in double."""
    wanted = [n for n, v in feeds.items() if v.dtype.kind == "f"] if wanted is None else wanted
    shapes = {name: value.shape for name, value in feeds.items()}
    exact = gradient_model(onnx.parser.parse_model(text), shapes, wanted)
    narrow = gradient_model(onnx.parser.parse_model(_narrow(text)), shapes, wanted)
    rng = np.random.default_rng(seed)
    values = dict(feeds)
    for value in exact.graph.input:
        if value.name not in values:
            shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            values[value.name] = rng.standard_normal(shape)
    models = [(onnx.parser.parse_model(text), onnx.parser.parse_model(_narrow(text)))]
    for wide_model, narrow_model in (*models, (exact, narrow)):
        names = {value.name for value in wide_model.graph.input}
        given = {name: value for name, value in values.items() if name in names}
        expected = ReferenceEvaluator(wide_model, new_ops=OPS).run(None, given)
        for value, wide in zip(_run(narrow_model, given), expected, strict=True):
            assert value.shape == wide.shape, (value.shape, wide.shape)
            scale = max(1.0, float(np.abs(wide).max(initial=0.0)))
            np.testing.assert_allclose(value, wide, rtol=tolerance, atol=tolerance * scale)


def _narrow(text: str) -> str:
    return text.replace("double", "float")


def _run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    narrowed = {n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in feeds.items()}
    results: list[np.ndarray] = session.run(None, narrowed)
    return results
