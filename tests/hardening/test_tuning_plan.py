"""What a tuning run learns from: folds of the samples, and mixtures of them."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.data import Splits
from cloakify.hardening.tuning_plan import folds_of, make_plan, mixes_samples
from cloakify.settings import HardenSetting


@pytest.mark.parametrize(("fit", "select"), [(1, 1), (5, 2), (1999, 30), (2000, 30)])
def test_few_samples_are_dealt_into_all_and_two_folds(fit: int, select: int) -> None:
    order = np.random.default_rng(0).permutation(fit + select)
    labels = np.arange(fit + select) % 2
    splits = Splits(np.sort(order[:fit]), np.sort(order[fit:]), np.array([fit + select]))
    folds, held_out = folds_of(splits, labels, seed=0)
    if fit >= 2000:
        assert len(folds) == 1
        np.testing.assert_array_equal(folds[0], splits.fit)
        np.testing.assert_array_equal(held_out[0], splits.select)
        return
    together, *folds = folds
    np.testing.assert_array_equal(together, np.arange(fit + select))
    assert [len(fold) for fold in folds] == [(fit + select) // 2, (fit + select + 1) // 2]
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(fit + select))
    for fold, other in zip(folds, held_out[::-1], strict=True):
        np.testing.assert_array_equal(fold, other)
        assert abs(labels[fold].sum() - len(fold) / 2) <= 1


def test_only_many_gates_on_few_samples_are_tuned_on_mixtures() -> None:
    def mixes(samples: int, **changes: str) -> bool:
        setting = HardenSetting(**{"method": "tuned", "gates": "position", **changes})  # type: ignore[arg-type]
        plan = make_plan(setting, samples)
        assert bool(plan.mixtures) == mixes_samples(setting, samples)
        return plan.mixtures > 0

    assert mixes(1999) and mixes(1)
    assert not mixes(2000)
    assert not mixes(1999, gates="channel")
