"""Before anything is attacked: does the model answer in numbers, as its head does, and rightly?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cloakify.data import Batch
from cloakify.data.naming import shown
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell, untold
from cloakify.errors import DataError, ModelError
from cloakify.evaluation.warnings import EvaluationWarning
from cloakify.experiment.class_order import find_better_order, is_low, is_surely_low
from cloakify.experiment.experiment import Experiment
from cloakify.experiment.integer_kernels import kernel_warnings
from cloakify.experiment.label_ranking import SLIGHT, rank_labels
from cloakify.experiment.slopes import Slopes, slopes_of
from cloakify.experiment.subject import Subject
from cloakify.numeric.arrays import Array, Indices, Labels, evenly, floats, in_chunks, softmax
from cloakify.numeric.intervals import wilson
from cloakify.numeric.judging import is_right
from cloakify.printable import in_percent

# Clean samples that the model is tried on, taken evenly from all: a hundred classes need as many
# for two of them that have changed places to be seen.
TRIED = 2048

# Where the labels are its own answers there is no order to be wrong.
TRIED_ON_ITS_OWN = 256

# Samples up to which low accuracy may be luck, or that of samples which were picked for it.
FEW = 64

# Accuracy of few samples that asks for a word where all of its interval lies below.
HALF = 0.5

# Share of them that must be answered otherwise than the head does for the head to be the wrong one.
# Below that the figures still say something, with a warning.
MOST = 0.5

# By how much more often a model must be right by its own account than it is, luck set aside, for
# labels or preprocessing to be in doubt: networks that were not calibrated are over-confident by up
# to a fifth (C. Guo et al., ICML 2017).
TOO_SURE = 0.25

# Samples that are run by themselves as well, and by how much of the range of all logits theirs are
# others then: scales that are quantised for a whole batch move them by less.
ALONE = 16
OTHERWISE = 0.25

# Logits are small where they are this close to each other: e times as likely at most.
SMALL = 1.0


@dataclass(frozen=True)
class Preflight:
    """What a model did on ``count`` clean samples.

    Attributes
    ----------
    correct
        How many it classifies rightly.
    overruled
        How many get another answer from the whole model than from its head.
    spread
        From the smallest to the largest logit of a sample, the median.
    slopes
        How much of what it does its derivatives do not tell; nothing where nobody follows them.
    low
        Why its answers ask for an explanation, though not for a stop; empty where they do not.
    """

    count: int
    correct: int
    overruled: int
    spread: float
    slopes: Slopes = field(default_factory=Slopes)
    low: str = ""

    @property
    def small_logits(self) -> bool:
        """Whether the cross-entropy hardly tells the wrong classes apart.

        Its gradient then leads to all of them at once, and an attack that follows it is weak.
        """
        return self.spread < SMALL


@dataclass(frozen=True)
class Trying(Task[Subject]):
    """Runs a model on n clean samples: ``logits`` [n, C], and which are ``overruled``, bool [n].

    Attributes
    ----------
    number
        Which of the models.
    """

    number: int
    is_dealt = False

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"trying-{self.number}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        logits, overruled = subject.targets[self.number].logits_and_overruled(floats(batch.x))
        return {"logits": logits, "overruled": overruled}


@dataclass(frozen=True)
class RunningAlone(Task[Subject]):
    """Tells of a few samples whether they get other scores by themselves: ``mixed``, bool [n].

    None do of a model that draws at random, of which nothing can be said so.
    """

    number: int
    is_dealt = False

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"running-alone-{self.number}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        target, x = subject.targets[self.number], floats(batch.x)
        together, again = target.logits(x), target.logits(x)
        width = OTHERWISE * np.ptp(together)
        if np.abs(together - again).max() > width / 100:
            return {"mixed": np.zeros(len(x), bool)}
        alone = np.concatenate([target.logits(x[row : row + 1]) for row in range(len(x))])
        apart = np.abs(alone - together).max(axis=1)
        return {"mixed": apart > width}


def preflight(
    subject: Subject,
    number: int,
    engine: Engine[Subject],
    *,
    few: bool = False,
    gradients: bool = True,
) -> Preflight:
    """Run a model on clean samples.

    Parameters
    ----------
    number
        Which of the subject's models.
    engine
        Who does it.
    few
        Whether a few samples may well be ones that the model errs on: what is low of these alone
        is told then. More right answers than none, and surely fewer than of a model that knows
        anything, are what guesses get; samples that were picked for being wrong have none.
    gradients
        Whether attacks will follow them, so that it counts what they do not tell.

    Raises
    ------
    ModelError
        Its logits are no numbers, its answers are not its head's, or they depend on other samples.
    DataError
        Its answers fit another order of the classes far better than the data's, or it knows hardly
        more than chance.
    """
    experiment, target = subject.experiments[number], subject.targets[number]
    path, dataset = experiment.classifier.file.path, experiment.dataset
    given = experiment.setting.data.labels != "model"
    indices = evenly(np.arange(len(dataset)), TRIED if given else TRIED_ON_ITS_OWN)
    count = len(indices)
    parts = list(engine.map(Job(Trying(number), in_chunks(indices, target.span)), untold))
    logits = np.concatenate([part["logits"] for part in parts])
    other = sum(int(part["overruled"].sum()) for part in parts)
    lost = int(np.isnan(logits).any(axis=1).sum())
    if lost:
        raise ModelError(
            f"{path}: its logits are no numbers (NaN) on {lost} of {count} clean samples; is a "
            "weight, or the preprocessing, broken?"
        )
    _check_alone(subject, number, engine, evenly(indices, ALONE))
    if other > MOST * count:
        raise ModelError(
            f"{path}: on {other} of {count} clean samples it answers with another class than its "
            f"scores {experiment.classifier.scores.shipped!r}: what stands behind them changes the "
            "answer; name another head with --head, or export the model with its class scores as "
            "output"
        )
    labels = experiment.labels[indices]
    low = ""
    if given and not experiment.setting.data.accept_accuracy:
        if target.independent:
            low = _check_labels(experiment, labels, logits, few)
        else:
            low = _check_answers(experiment, labels, logits.argmax(axis=1), few)
            low = low or _too_sure(experiment, labels, logits)
    with np.errstate(invalid="ignore"):
        # Of labels each has a loss of its own, and none leads to another.
        spread = np.inf if target.independent else float(np.median(np.ptp(logits, axis=1)))
    slopes = slopes_of(subject, number, engine, indices) if gradients else Slopes()
    return Preflight(count, int(is_right(logits, labels).sum()), other, spread, slopes, low)


def seen_first(
    subject: Subject, engine: Engine[Subject], looks: Sequence[Preflight]
) -> list[list[EvaluationWarning]]:
    """Return what the first look at each of a subject's models says against its figures."""
    every = np.arange(len(subject.first.dataset))
    return [
        [*look.slopes.warnings, *kernel_warnings(subject, number, engine, every)]
        for number, look in enumerate(looks)
    ]


def _check_alone(subject: Subject, number: int, engine: Engine[Subject], some: Indices) -> None:
    """Raise ModelError where what a sample is answered with depends on the others in its batch."""
    (made,) = engine.map(Job(RunningAlone(number), [some]), untold)
    mixed = int(made["mixed"].sum())
    if mixed:
        raise ModelError(
            f"{subject.experiments[number].classifier.file.path}: {mixed} of {len(some)} samples "
            "get other scores alone than beside others: its answers depend on what is in the same "
            "batch, or the first axis does not count samples; --batch-size 1 runs each by itself"
        )


def _check_labels(experiment: Experiment, labels: Labels, logits: Array, few: bool) -> str:
    """Raise DataError where the logits hardly tell samples with a label from those without.

    Of few samples return it as a sentence, where no guess may rank so low.
    """
    ranking, picked = rank_labels(logits, labels), few and len(labels) < FEW
    if ranking is None and picked:
        return ""
    if ranking is None:
        raise DataError(
            f"{shown(str(experiment.dataset.path))}: every label holds for all samples or for "
            "none: give data of both kinds, or pass --accept-accuracy"
        )
    if not ranking.is_low or (picked and ranking.area >= SLIGHT):
        return ""
    seen = (
        f"{experiment.classifier.file.path}: ranks samples with a label above those without in "
        f"{in_percent(ranking.area)} of the pairs, over {ranking.counted} labels, where a guess "
        "does in half: check the preprocessing (--scale, --mean, --std) and the order of the "
        "labels"
    )
    if picked:
        return f"{seen}, unless these {len(labels)} samples were picked for that"
    notes = _notes(experiment)
    raise DataError(f"{seen}; --labels model does without them, --accept-accuracy goes on{notes}")


def _check_answers(experiment: Experiment, labels: Labels, answers: Labels, few: bool) -> str:
    """Raise DataError where the answers fit another order of the classes, or hardly any.

    Of few samples that may have been picked return as a sentence that accuracy is low.
    """
    path, classes = experiment.classifier.file.path, experiment.classifier.scores.num_classes
    correct, count = int((answers == labels).sum()), len(labels)
    notes = _notes(experiment)
    seen = f"{path}: clean accuracy is {in_percent(correct / count)} ({correct} of {count})"
    better = find_better_order(labels, answers, classes)
    if better is not None:
        raise DataError(
            f"{seen}, but {in_percent(better.accuracy)} with the classes in another order: if that "
            f"is the model's, pass --classes {_option(experiment, better.labels)}; "
            f"--accept-accuracy goes on with the order as it is{notes}"
        )
    picked = few and count < FEW
    if not is_low(correct, count, classes):
        return ""
    checked = _suspects(experiment)
    if picked and not (correct and is_surely_low(correct, count, classes)):
        if wilson(correct, count)[1] >= HALF:
            return ""
        return f"{seen}: unless these samples were picked for that, check {checked}"
    if correct == count:
        raise DataError(
            f"{path}: {count} samples are too few to tell the model from guessing among {classes} "
            "classes: give more data, or pass --accept-accuracy"
        )
    raise DataError(
        f"{seen}, low for {classes} classes (chance is {in_percent(1 / classes)}), and no other "
        f"order of the classes explains it: check {checked}; "
        f"--labels model does without them, --accept-accuracy goes on{notes}"
    )


def _too_sure(experiment: Experiment, labels: Labels, logits: Array) -> str:
    """Say so where a model is far surer of its answers than it is right, by the odds of its scores.

    Wrong labels, and inputs that are made otherwise than for its training, show by that.
    """
    if len(labels) < FEW or not np.isfinite(logits).all():
        return ""
    right = is_right(logits, labels)
    sure = float(softmax(logits, axis=1).max(axis=1).mean())
    if sure - wilson(int(right.sum()), len(labels))[1] <= TOO_SURE:
        return ""
    return (
        f"{experiment.classifier.file.path} is right on {in_percent(float(right.mean()))} of the "
        f"clean samples, and gives its answers a probability of {in_percent(sure)}: if it does "
        f"better on other data, check {_suspects(experiment)}"
    )


def _suspects(experiment: Experiment) -> str:
    """Name what may be wrong where answers are."""
    is_row = len(experiment.classifier.spec.sample_shape) == 1
    columns = ", the order of the columns" * is_row
    return f"the preprocessing (--scale, --mean, --std){columns} and the labels"


def _notes(experiment: Experiment) -> str:
    """Return what may explain that answers and labels do not agree."""
    which = experiment.classifier.search.outputs.notes
    return "".join(f" ({note})" for note in (*which, *experiment.dataset.notes))


def _option(experiment: Experiment, order: Labels) -> str:
    """Return the value of ``--classes`` for an order of the labels, as a shell takes it."""
    listed = experiment.dataset.names_of(order)
    plain = not any("," in name or name != name.strip() for name in listed)
    return shlex.quote(shown(",".join(listed) if plain else json.dumps(listed)))
