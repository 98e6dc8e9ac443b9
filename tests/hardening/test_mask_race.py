"""The race finds what attacking every mask on every sample would find, with fewer attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cloakify.attacks import Apgd, Target, worst_case
from cloakify.attacks.square import Square
from cloakify.engine.task import Arrays, Job, Tell
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import Experiment, open_experiment
from cloakify.experiment.subject import Subject
from cloakify.graph.edit.mask import insert_mask
from cloakify.hardening import mask_race
from cloakify.hardening.mask_race import Contender, MaskRace
from cloakify.masking.mask_choice import MaskChoice, choose
from cloakify.settings import HardenSetting
from tests.hardening.gates import Wide

SAMPLES = np.arange(48)
ATTACKS = (Apgd(steps=3), Square(queries=50, seed=0))


@pytest.fixture(scope="module")
def experiment(samples: Path) -> Experiment:
    setting = HardenSetting(device="cpu", eps=3 / 255, batch_size=8)
    path = samples / "fashion_pooled.onnx"
    return open_experiment(open_classifier(path), samples / "test.npz", setting, lambda *_: None)


class Eager(Wide):
    """Does what it is told of at once, the last first."""

    def __init__(self, subject: Subject, width: int) -> None:
        super().__init__(subject, width)
        self.early: dict[int, list[tuple[int, Arrays]]] = {}
        self.forgotten = 0

    def begin(self, jobs: Sequence[Job[Subject]]) -> None:
        for job in reversed(jobs):
            self.early[id(job)] = list(super().results(job, lambda amount: None))

    def results(self, job: Job[Subject], tell: Tell) -> Iterator[tuple[int, Arrays]]:
        yield from self.early.pop(id(job), None) or super().results(job, tell)

    def forget(self, jobs: Sequence[Job[Subject]]) -> None:
        for job in jobs:
            del self.early[id(job)]
            self.forgotten += 1


def random_choices(experiment: Experiment, count: int) -> list[MaskChoice]:
    features = experiment.classifier.head.num_features
    generator = np.random.default_rng(0)
    sizes = np.linspace(1, features // 2, count).astype(int)
    return [
        choose(generator.permutation(features), int(size), f"mask {number}")
        for number, size in enumerate(sizes)
    ]


def race_of(experiment: Experiment, engine: Wide | None = None) -> MaskRace:
    subject = Subject([experiment], masked=True)
    opening = Apgd(steps=3, stop_early=False)
    return MaskRace(subject, engine or Wide(subject, 1), SAMPLES, opening, ATTACKS)


def masked(experiment: Experiment, choices: Sequence[MaskChoice]) -> list[Target]:
    classifier = experiment.classifier
    return [
        experiment.target(insert_mask(classifier.file.model, classifier.head, each.mask, {}))
        for each in choices
    ]


def test_no_mask_is_more_robust_than_the_winner(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every attack starts anew, for want of room for what others crafted."""
    monkeypatch.setattr(mask_race, "KEPT", 0)
    choices = random_choices(experiment, 5)
    winner = race_of(experiment).run(choices, "comparing", lambda *_: None)
    (batch,) = experiment.dataset.batches(SAMPLES, len(SAMPLES))
    x, y, index = batch.x.astype(np.float32), batch.y, batch.index
    targets = masked(experiment, choices)
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


def test_the_winner_leaves_most_under_all_that_was_crafted(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted anew with the masked files; the winner itself was attacked on all that it leaves."""
    crafted: list[tuple[np.ndarray, np.ndarray]] = []
    for attack, name in ((Apgd, "resume"), (Apgd, "explore"), (Square, "run")):
        monkeypatch.setattr(attack, name, recording(getattr(attack, name), crafted))
    choices = random_choices(experiment, 5)
    winner = race_of(experiment).run(choices, "comparing", lambda *_: None)
    (batch,) = experiment.dataset.batches(SAMPLES, len(SAMPLES))
    x, y = batch.x.astype(np.float32), batch.y
    targets = masked(experiment, choices)
    standing = [target.correct(x, y) for target in targets]
    for index, attacked in crafted:
        assert experiment.threat.distance(attacked, x[index]).max() <= experiment.threat.eps * 1.001
        for flags, target in zip(standing, targets, strict=True):
            flags[index] &= target.correct(attacked, y[index])
    counts = [int(flags.sum()) for flags in standing]
    place = [choice.score for choice in choices].index(winner.score)
    assert counts[place] == max(counts)
    assert len(set(counts)) > 1


def recording(
    run: Callable[..., object], crafted: list[tuple[np.ndarray, np.ndarray]]
) -> Callable[..., object]:
    def recorded(*arguments: object) -> object:
        result = run(*arguments)
        attacked = result[0] if isinstance(result, tuple) else result
        crafted.append((np.asarray(arguments[4]), np.array(attacked)))
        return result

    return recorded


def test_the_winner_stays_in_the_race(experiment: Experiment) -> None:
    choices = random_choices(experiment, 4)
    race = race_of(experiment)
    first = race.run(choices, "comparing", lambda *_: None)
    assert race.run([first], "comparing", lambda *_: None) is first
    whole = race_of(experiment).run(choices, "comparing", lambda *_: None)
    assert race.run(choices, "comparing", lambda *_: None).score == whole.score == first.score


def test_masks_far_behind_are_hardly_attacked(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = experiment.classifier.head.num_features
    everything = np.arange(features)
    good, *bad = [choose(everything, 1, "good")] + [
        choose(everything, features - left, f"bad {left}") for left in (1, 2, 3)
    ]
    attacked: list[tuple[np.ndarray, np.ndarray]] = []
    monkeypatch.setattr(Apgd, "resume", recording(Apgd.resume, attacked))
    race = race_of(experiment)
    assert race.run([*bad, good], "comparing", lambda *_: None).score == "good"
    assert sum(len(index) for index, _ in attacked) < 2 * len(SAMPLES)


@pytest.mark.parametrize("room", [0, 1 << 28])
def test_what_is_attacked_ahead_of_its_turn_changes_nothing(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Done at once when it is begun, the last first, and some of it for nothing."""
    monkeypatch.setattr(mask_race, "KEPT", room)
    choices = random_choices(experiment, 5)
    subject = Subject([experiment], masked=True)
    races = []
    for engine in (Wide(subject, 1), Eager(subject, 3), Eager(subject, 50)):
        race = race_of(experiment, engine)
        turns = noted(race, monkeypatch)
        for some in (choices[:3], choices[3:]):
            race.run(some, "comparing", lambda *_: None)
        races.append(turns)
        if isinstance(engine, Eager):
            assert engine.forgotten and not engine.early
    assert races[0] == races[1] == races[2]


def noted(race: MaskRace, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, bytes]]:
    """Return what will hold each turn: which mask, which part, and what stands then."""
    turns: list[tuple[int, int, bytes]] = []
    attack = race._attack

    def attacked(leader: Contender, part: int, contenders: Sequence[Contender]) -> None:
        attack(leader, part, contenders)
        standing = b"".join(each.standing.tobytes() for each in contenders)
        turns.append((leader.number, part, standing))

    monkeypatch.setattr(race, "_attack", attacked)
    return turns


def test_progress_reaches_its_end(experiment: Experiment) -> None:
    seen: list[tuple[str, int, int]] = []
    race = race_of(experiment)
    race.run(random_choices(experiment, 3), "comparing", lambda *told: seen.append(told))
    done = [step for _, step, _ in seen]
    assert done == sorted(done) and seen[-1][1] == seen[-1][2]
