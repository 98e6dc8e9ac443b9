"""The cascade: every attack only on what is left, every verdict from the shipped graph."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cloakify.attacks import Apgd, Attack, Fgsm, Pgd, Square, worst_case
from tests.support.classifiers import threat_of


@dataclass
class Recorder(Attack):
    """Passes on to another attack, and remembers which samples it was given."""

    inner: Attack
    seen: list[np.ndarray] = field(default_factory=list)
    name = "recorded"

    @property
    def steps(self) -> int:
        return self.inner.steps

    def run(self, target, x, y, index, threat):
        self.seen.append(index)
        return self.inner.run(target, x, y, index, threat)


def test_each_attack_sees_what_is_left(pooled, few):
    x, y, index = few
    threat = threat_of(pooled, "linf", 4 / 255)
    attacks = [Recorder(Fgsm()), Recorder(Pgd(steps=1)), Recorder(Apgd(steps=20))]
    found = worst_case(attacks, pooled, x, y, index, threat)
    assert list(found.robust) == ["recorded", "recorded-2", "recorded-3"]
    masks = [found.correct, *found.robust.values()]
    for attack, before, after in zip(attacks, masks, masks[1:], strict=False):
        assert attack.seen[0].tolist() == index[before].tolist()
        assert not (after & ~before).any()
    assert 0 < masks[-1].sum() < masks[0].sum()
    # The last one takes some more.
    assert masks[-1].sum() < masks[-2].sum()
    assert (found.worst == masks[-1]).all()
    # The samples that are returned are the proof.
    assert (pooled.correct(found.x, y) == found.worst).all()
    assert threat.distance(found.x, x).max() <= threat.eps * (1 + 1e-5)


def test_nothing_left_is_no_error(pooled, few):
    x, _, index = few
    wrong = (pooled.logits(x).argmax(axis=1) + 1) % 10
    found = worst_case(
        [Fgsm(), Square(queries=5)], pooled, x, wrong, index, threat_of(pooled, "l2", 1)
    )
    assert not found.correct.any() and not found.worst.any()
    assert list(found.robust) == ["fgsm", "square"]


def test_no_attacks(pooled, few):
    x, y, index = few
    found = worst_case([], pooled, x, y, index, threat_of(pooled, "l2", 1))
    assert (found.worst == found.correct).all() and found.x.tobytes() == x.tobytes()
