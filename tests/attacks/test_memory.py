"""Where memory does not suffice batches are halved, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.attacks import Apgd, ApgdT, FabT, Fgsm, MiFgsm, Pgd, Square, Target
from cloakify.errors import OutOfMemoryError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.inputs import find_input
from cloakify.masking.gated import GatedModel
from cloakify.runtime import BatchSize, Device, Session
from tests.support.classifiers import mlp_classifier, target_of, threat_of
from tests.support.fragile import fragile_model
from tests.support.scarce import allow

ATTACKS = [
    Fgsm(),
    Pgd(steps=4, restarts=2),
    MiFgsm(steps=4),
    Apgd(steps=5),
    ApgdT(steps=4, num_targets=2),
    FabT(steps=3, num_targets=2),
    Square(queries=10),
]
X = np.random.default_rng(0).random((40, 8), np.float32)


def batched(size: int | BatchSize, threads: int = 2) -> Target:
    model = mlp_classifier(0, 8, 3)
    scores = find_classifier(model).scores
    return Target(model, find_input(model), scores, Device("cpu"), size, threads)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_attack_goes_on_with_smaller_batches(monkeypatch, attack, threads):
    y = batched(4).logits(X).argmax(axis=1)
    index = np.arange(len(X))
    small = batched(4, threads)
    threat = threat_of(small, "linf", 0.05)
    expected = attack.run(small, X, y, index, threat)
    failed = allow(monkeypatch, 7)
    batching = BatchSize(16)
    found = attack.run(batched(batching, threads), X, y, index, threat)
    np.testing.assert_array_equal(found, expected)
    assert failed and set(failed) <= {8, 16}
    assert batching.now == 4
    assert batching.remark == (
        "memory did not suffice for 16 samples at once; the run went on with 4",
    )


def test_targets_of_one_run_learn_of_it_together(monkeypatch):
    failed = allow(monkeypatch, 8)
    batching = BatchSize(32)
    first, second = batched(batching, 1), batched(batching, 1)
    first.evaluate(X, np.zeros(len(X), np.int64))
    before = len(failed)
    second.evaluate(X, np.zeros(len(X), np.int64))
    assert before == 2 and len(failed) == before
    assert not batched(BatchSize(8))._batching.remark


def test_not_even_one_sample_fits(monkeypatch):
    allow(monkeypatch, 0)
    with pytest.raises(OutOfMemoryError, match="does not suffice, even for 1 at once: no room"):
        batched(4).logits(X)


def test_a_batch_that_the_model_sets_is_not_halved(monkeypatch):
    model = mlp_classifier(0, 8, 3)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 6
    allow(monkeypatch, 4)
    with pytest.raises(OutOfMemoryError, match="no room for 6"):
        target_of(model).logits(X)


def test_memory_of_the_host_counts_too(monkeypatch):
    run = Session.run

    def full(self, feeds, outputs=None):
        if len(feeds[self.inputs[0]]) > 4:
            raise MemoryError
        return run(self, feeds, outputs)

    expected = batched(4).logits(X)
    monkeypatch.setattr(Session, "run", full)
    np.testing.assert_array_equal(batched(16).logits(X), expected)


def test_sessions_are_let_go_of(monkeypatch):
    """Their memory is what is missing."""
    target = batched(16, 1)
    target.logits(X)
    (session,) = target.sessions.kept
    allow(monkeypatch, 8)
    target.logits(X)
    assert session not in target.sessions.kept


def test_gradients_of_gates(monkeypatch):
    model = fragile_model()
    found = find_classifier(model)
    assert found.head is not None
    sites = find_gate_sites(model, found.head)
    soft = np.eye(2, dtype=np.float32)[np.arange(len(X)) % 2]

    def gradient(size):
        spec = find_input(model)
        gated = GatedModel(model, sites, spec, found.scores, (8,), Device("cpu"), size)
        return gated.gradient(X, soft)

    expected = gradient(8)
    failed = allow(monkeypatch, 8)
    halved = gradient(32)
    assert set(failed) == {32, 16}
    np.testing.assert_array_equal(halved.logits, expected.logits)
    np.testing.assert_array_equal(halved.gradient, expected.gradient)
    assert halved.loss == expected.loss
