"""The race finds what attacking every mask on every sample would find, with fewer attacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloakify.attacks import Apgd, Target, worst_case
from cloakify.attacks.square import Square
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import Experiment, open_experiment
from cloakify.graph.edit.mask import insert_mask
from cloakify.hardening.mask_race import MaskRace
from cloakify.masking.mask_choice import MaskChoice, choose
from cloakify.settings import HardenSetting

SAMPLES = np.arange(48)
ATTACKS = (Apgd(steps=3), Square(queries=50, seed=0))


@pytest.fixture(scope="module")
def experiment(samples: Path) -> Experiment:
    setting = HardenSetting(device="cpu", eps=3 / 255, batch_size=8)
    path = samples / "fashion_pooled.onnx"
    return open_experiment(open_classifier(path), samples / "test.npz", setting, lambda *_: None)


def random_choices(experiment: Experiment, count: int) -> list[MaskChoice]:
    features = experiment.classifier.head.num_features
    generator = np.random.default_rng(0)
    sizes = np.linspace(1, features // 2, count).astype(int)
    return [
        choose(generator.permutation(features), int(size), f"mask {number}")
        for number, size in enumerate(sizes)
    ]


def test_no_mask_is_more_robust_than_the_winner(experiment: Experiment) -> None:
    choices = random_choices(experiment, 5)
    race = MaskRace(experiment, SAMPLES, ATTACKS)
    winner = race.run(choices, "comparing", lambda *_: None)
    (batch,) = experiment.dataset.batches(SAMPLES, len(SAMPLES))
    x, y, index = batch.x.astype(np.float32), batch.y, batch.index
    classifier = experiment.classifier
    targets = [
        experiment.target(insert_mask(classifier.file.model, classifier.head, each.mask, {}))
        for each in choices
    ]
    tried = [worst_case(ATTACKS, target, x, y, index, experiment.threat) for target in targets]
    own = [int(each.worst.sum()) for each in tried]
    # Under everything that was crafted against any of the masks.
    everything = [
        int(np.all([each.correct, *(target.correct(other.x, y) for other in tried)], axis=0).sum())
        for target, each in zip(targets, tried, strict=True)
    ]
    place = [choice.score for choice in choices].index(winner.score)
    assert own[place] >= max(everything)
    assert len(set(own)) > 1


def test_the_winner_stays_in_the_race(experiment: Experiment) -> None:
    choices = random_choices(experiment, 4)
    race = MaskRace(experiment, SAMPLES, ATTACKS)
    first = race.run(choices, "comparing", lambda *_: None)
    assert race.run([first], "comparing", lambda *_: None) is first
    whole = MaskRace(experiment, SAMPLES, ATTACKS).run(choices, "comparing", lambda *_: None)
    assert race.run(choices, "comparing", lambda *_: None).score == whole.score == first.score


def test_masks_far_behind_are_hardly_attacked(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = experiment.classifier.head.num_features
    everything = np.arange(features)
    good, *bad = [choose(everything, 1, "good")] + [
        choose(everything, features - left, f"bad {left}") for left in (1, 2, 3)
    ]
    attacked: list[int] = []
    run = Apgd.run

    def counting(self: Apgd, target: Target, x: np.ndarray, *rest: object) -> np.ndarray:
        attacked.append(len(x))
        return run(self, target, x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Apgd, "run", counting)
    race = MaskRace(experiment, SAMPLES, ATTACKS)
    assert race.run([*bad, good], "comparing", lambda *_: None).score == "good"
    assert sum(attacked) < 2 * len(SAMPLES)


def test_progress_reaches_its_end(experiment: Experiment) -> None:
    seen: list[tuple[str, int, int]] = []
    race = MaskRace(experiment, SAMPLES, ATTACKS)
    race.run(random_choices(experiment, 3), "comparing", lambda *told: seen.append(told))
    done = [step for _, step, _ in seen]
    assert done == sorted(done) and seen[-1][1] == seen[-1][2]
