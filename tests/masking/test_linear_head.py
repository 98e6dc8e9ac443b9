"""W and b are read off the head however the file stores them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.analysis.task import Boundary, Task
from cloakify.masking.linear_head import PICKED, LinearHead, at_answer, by_feature, read_head

HEADER = '<ir_version: 8, opset_import: ["" : 18]>'
FORMS = {
    "gemm": (
        "float[N, 3] x",
        "float[3, 2] w, float[2] b",
        "y = Gemm(f, w, b)",
        lambda w: w,
    ),
    "gemm, transposed": (
        "float[N, 3] x",
        "float[2, 3] w, float[2] b",
        "y = Gemm<transB: int = 1>(f, w, b)",
        lambda w: w.T,
    ),
    "matmul": (
        "float[N, 3] x",
        "float[3, 2] w, float[2] b",
        "z = MatMul(f, w)\n y = Add(b, z)",
        lambda w: w,
    ),
    "transposed constant": (
        "float[N, 3] x",
        "float[2, 3] w, float[2] b",
        "v = Transpose<perm = [1, 0]>(w)\n z = MatMul(f, v)\n y = Add(z, b)",
        lambda w: w.T,
    ),
    "conv": (
        "float[N, 3, 2, 2] x",
        "float[2, 3, 1, 1] w, float[2] b",
        "z = Conv(f, w, b)\n p = GlobalAveragePool(z)\n y = Flatten(p)",
        lambda w: w[:, :, 0, 0].T,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_read_head(form: str) -> None:
    data, constants, body, as_matrix = FORMS[form]
    graph = f"{HEADER} g ({data}) => (float[N, 2] y) <{constants}> {{ f = Relu(x)\n {body} }}"
    # The text format wants values; they are filled in below.
    graph = graph.replace("] w", "] w = {0}").replace("] b", "] b = {0}")
    model = onnx.parser.parse_model(graph)
    rng = np.random.default_rng(0)
    values = {}
    for tensor in model.graph.initializer:
        values[tensor.name] = rng.standard_normal(tuple(tensor.dims)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
    head = find_head(model).head
    rank = len(model.graph.input[0].type.tensor_type.shape.dim)
    features = rng.random((4, 3, *[2] * (rank - 2)), dtype=np.float32)
    linear = read_head(model, head, features.ndim)
    assert np.allclose(linear.weight, as_matrix(values["w"]), atol=1e-6)
    assert np.allclose(linear.bias, values["b"], atol=1e-6)
    flat = by_feature(features, head)
    assert flat.shape == ((4, 3) if rank == 2 else (4, 4, 3))
    if rank == 4:
        assert np.array_equal(flat[1, 3], features[1, :, 1, 1])
    # Of a batch of which nothing is a number none is left.
    assert by_feature(features[:0], head).shape == (0, *flat.shape[1:])


@given(
    n=st.integers(1, 5),
    positions=st.integers(2, 6),
    seed=st.integers(0, 99),
    masked=st.booleans(),
)
def test_the_position_that_is_answered_from(n: int, positions: int, seed: int, masked: bool):
    """Logits of one position are traced back to it; their mean is not."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((n, positions, 7)).astype(np.float32)
    mask = random.integers(0, 2, 7).astype(np.float32) if masked else None
    mask = None if mask is None or not mask.any() else mask
    head = LinearHead(*(random.standard_normal(shape).astype("f") for shape in ((7, 4), (4,))))
    scores = features * (1 if mask is None else mask) @ head.weight + head.bias
    places = random.integers(0, positions, n)
    found = at_answer(features, scores[np.arange(n), places], head, mask)
    np.testing.assert_array_equal(found, places)
    assert at_answer(features, scores.mean(axis=1), head, mask) is None


@given(
    size=st.floats(1e-2, 1e4),
    apart=st.floats(0.1, 10).filter(lambda share: abs(share - 1) > 0.05),
    seed=st.integers(0, 99),
)
def test_what_is_near_is_so_by_the_size_of_the_logits(size: float, apart: float, seed: int) -> None:
    """A thousandth of the largest, or of 1 where all are small, is what sums may be rounded by."""
    random = np.random.default_rng(seed)
    head = LinearHead(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    features = random.uniform(-1, 1, (4, 5, 3))
    features *= size / np.abs(features[:, 2]).max()
    logits = features[:, 2].copy()
    # In the opposite direction of the nearest number, so that it stays the nearest position.
    logits[:, 0] += apart * PICKED * max(1.0, size) * np.sign(-logits[:, 0])
    places = at_answer(features.astype(np.float32), logits.astype(np.float32), head)
    if apart > 1:
        assert places is None or (places != 2).any()
    elif size >= 1:
        np.testing.assert_array_equal(places, 2)
    else:
        assert places is not None


@given(
    task=st.sampled_from(list(Task)),
    pairs=st.sampled_from(["", "first", "last"]),
    rising=st.booleans(),
    bound=st.floats(0.05, 0.95),
    of_probability=st.booleans(),
    seed=st.integers(0, 99),
)
def test_logits_of_classes_are_what_scores_stand_for(
    task: Task, pairs: str, rising: bool, bound: float, of_probability: bool, seed: int
) -> None:
    """0 and z − bound of one logit, z − bound of labels, turned where less is more."""
    random = np.random.default_rng(seed)
    count = 1 if task is Task.BINARY else 3
    pairs = pairs if task is Task.MULTILABEL else ""
    boundary = Boundary((bound,), rising, of_probability)
    if task is Task.SINGLE:
        boundary = Boundary(rising=rising)
    shape = (5, count * (2 if pairs else 1))
    head = LinearHead(*(random.standard_normal(each).astype("f") for each in (shape, shape[1:])))
    classes = 2 if task is Task.BINARY else count
    scores = Scores(task, "z", "y", classes, "f", (), boundary, pairs=pairs)  # type: ignore[arg-type]
    features = random.standard_normal((4, 5)).astype(np.float32)
    z = features.astype(np.float64) @ head.weight + head.bias
    if pairs:
        # Of each label the score of no, and that of yes.
        no, yes = (z[:, :3], z[:, 3:]) if pairs == "first" else (z[:, ::2], z[:, 1::2])
        z = yes - no
    if task is not Task.SINGLE:
        z -= np.log(bound / (1 - bound)) if of_probability else bound
    z *= 1 if rising else -1
    expected = np.concatenate([0 * z, z], axis=1) if task is Task.BINARY else z
    found = head.of_classes(scores).logits(features)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
