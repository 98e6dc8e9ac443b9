"""Attack: write attacked samples of a data set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cloakify.attacks import Attack, Target
from cloakify.attacks.apgd import ApgdBpda
from cloakify.data import Samples
from cloakify.data.kept import KeptRows
from cloakify.data.naming import shown
from cloakify.data.npz_writer import NpzWriter
from cloakify.engine.task import Arrays, Job
from cloakify.errors import UsageError
from cloakify.evaluation import Figure, accuracy_figure
from cloakify.evaluation.label_figures import LabelFigures, label_figures
from cloakify.evaluation.probes import blind_samples
from cloakify.evaluation.warnings import (
    EvaluationWarning,
    blocked_gradients,
    zero_gradients,
)
from cloakify.experiment.chosen_attacks import chosen_attack
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.counting import counted
from cloakify.experiment.crafting import Crafting, part_key
from cloakify.experiment.engines import Engines
from cloakify.experiment.experiment import Experiment, Progress, open_experiment
from cloakify.experiment.outputs import check_outputs
from cloakify.experiment.preflight import Preflight, preflight, seen_first
from cloakify.experiment.scope import all_let_go
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.experiment.unchanged import Watched
from cloakify.graph.analysis.task import Task
from cloakify.numeric.arrays import Array, Flags, Indices, evenly, in_chunks
from cloakify.onnxfile import atomic_write, path_of
from cloakify.printable import in_percent
from cloakify.settings import AttackSetting

# What is written besides attacked inputs.
_WRITTEN = ("x", "y", "index", "tensor")


@dataclass(frozen=True)
class AttackResult:
    """What :func:`attack` made: the file, and the model's accuracy before and after.

    Attributes
    ----------
    clean, attacked
        Of independent labels the exact match: all of a sample's are right.
    labels
        How each of them fares, clean and attacked, where samples have some.
    notes
        What the data's reader or the model's answers gave cause to say.
    class_names
        Name of each class index, where the data has names.
    """

    path: Path
    clean: Figure
    attacked: Figure
    notes: tuple[str, ...]
    class_names: tuple[str, ...] | None
    labels: tuple[LabelFigures, LabelFigures] | None = None

    def to_dict(self) -> dict[str, object]:
        """Return a JSON document."""
        document: dict[str, object] = {
            "output": str(self.path),
            "accuracy": {"clean": self.clean.to_dict(), "attacked": self.attacked.to_dict()},
        }
        if self.labels is not None:
            clean, attacked = map(asdict, self.labels)
            document["labels"] = {"clean": clean, "attacked": attacked}
        return document


@all_let_go()
def attack(
    model: str | os.PathLike[str],
    data: Samples,
    output: str | os.PathLike[str],
    setting: AttackSetting | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> AttackResult:
    """Attack every sample and write the results to an ``.npz`` file.

    The file holds ``x`` (as the model takes it), ``y`` (int64 [n], or [n, K] of 0 and 1) and
    ``index`` (int64: the row or file of the data that a sample comes from). Where attacks perturb a
    tensor inside the graph, ``x`` holds its values, and ``tensor`` its name. Of several inputs that
    are attacked ``x`` is the first, ``tensor`` holds the names, and the others go by theirs.

    Raises
    ------
    CloakifyError
        One of its kinds; see :mod:`cloakify.errors`. No file is left behind.
    """
    setting = AttackSetting.of(setting)
    path = Path(output)
    if path.suffix != ".npz":
        raise UsageError(f"-o takes an .npz file, not {path.name!r}")
    method = chosen_attack(setting)
    classifier = open_classifier(path_of(model), setting.model, needs_head=False)
    alone = setting.engine.alone
    check_outputs([path], [classifier], data, read=setting.data.read, claim=alone)
    engines = Engines("attack", setting, progress)
    experiment = open_experiment(classifier, data, setting, engines.label)
    subject = Subject([experiment])
    watched = Watched(subject)
    target, dataset = subject.targets[SOURCE], experiment.dataset
    white_box = method.gradient == "white-box"
    engine = engines.on(subject)
    first_look = preflight(subject, SOURCE, engine, few=True, gradients=white_box)
    (doubts,) = seen_first(subject, engine, [first_look])
    doubts += _doubts(experiment, target, method) if white_box else []
    job = Job(Crafting(method), in_chunks(np.arange(len(dataset)), target.span))
    also = _further(experiment, path)
    engine.begin([job])
    parts = engine.map(job, counted(progress, "attacking", job.work))
    right, logits = _write(path, experiment, also, watched, zip(job.chunks, parts, strict=True))
    notes = (
        *experiment.notes,
        *engines.notes,
        *_look_notes(first_look, method),
        *(warning.message for warning in doubts),
    )
    labels = None
    if target.independent:
        clean, attacked = (label_figures(each, experiment.labels) for each in logits)
        labels = clean, attacked
    clean_figure, attacked_figure = map(accuracy_figure, right)
    return AttackResult(path, clean_figure, attacked_figure, notes, dataset.class_names, labels)


def _write(
    path: Path,
    experiment: Experiment,
    also: Mapping[str, KeptRows],
    watched: Watched,
    made: Iterable[tuple[Indices, Arrays]],
) -> tuple[Flags, Array]:
    """Write attacked samples as they come.

    Parameters
    ----------
    also
        Where further inputs are kept that are attacked.
    made
        Samples by their places, and what came of them.

    Returns
    -------
    For clean samples and attacked ones: which are right, bool [2, n], and of models with
    independent labels their logits, float32 [2, n, K], else [2, 0, C].
    """
    dataset, latent = experiment.dataset, experiment.latent
    scores = experiment.classifier.scores
    independent = scores.task is Task.MULTILABEL
    right = np.empty((2, len(dataset)), bool)
    logits = np.empty((2, len(dataset) * independent, scores.num_classes), np.float32)
    shape = dataset.sample_shape if latent is None else latent.packing.tensor_shape
    chunks: list[Indices] = []
    with atomic_write(path) as file, NpzWriter(file) as archive:
        with archive.rows("x", (len(dataset), *shape), np.dtype(np.float32)) as write:
            for index, part in made:
                write(part["x"])
                for place, kept in enumerate(also.values(), 1):
                    kept.add(part[part_key(place)], shown(path))
                right[:, index] = part["right"]
                if independent:
                    logits[:, index] = part["logits"]
                chunks.append(index)
        watched.check()
        archive.put("y", experiment.labels)
        archive.put("index", dataset.rows)
        for name, kept in also.items():
            stored = kept.stored()
            with archive.rows(name, stored.shape, stored.dtype) as write:
                for index in chunks:
                    write(stored.take(index))
        if latent is not None:
            names = experiment.classifier.entry.perturbed
            archive.put("tensor", np.array(names if also else names[0]))
    return right, logits


def _look_notes(first_look: Preflight, method: Attack) -> Iterator[str]:
    """Yield what the first look at the model's answers and slopes gives cause to say."""
    if first_look.low:
        yield first_look.low
    if first_look.overruled:
        yield (
            f"{first_look.overruled} of {first_look.count} clean samples get another answer from "
            "the whole model than from its head, and both figures are of the head alone"
        )
    slopes = first_look.slopes
    if slopes.are_hidden and not isinstance(method, ApgdBpda):
        yield (
            f"the model hides its slopes: for {in_percent(slopes.hidden, 0)} of the numbers a "
            "function in it is level though it is not on either side, or bends where inputs may go "
            "no further, or for so many samples what it makes of its last layer's scores leads the "
            "other way; --attack apgd-bpda goes through"
        )


def _further(experiment: Experiment, path: Path) -> dict[str, KeptRows]:
    """Return where further inputs are kept that are attacked, by name.

    Raises
    ------
    UsageError
        One is called as something else is that is written.
    """
    names = [spec.name for spec in experiment.classifier.entry.also]
    for name in names:
        if name in _WRITTEN:
            raise UsageError(
                f"{shown(path)} holds something else under the name of the input {name!r}: attack "
                "that input alone (--attack-input), or export the model with another name for it"
            )
    return {name: KeptRows(shown(path)) for name in names}


def _doubts(experiment: Experiment, target: Target, method: Attack) -> list[EvaluationWarning]:
    """Look whether the attack sees a slope, on some samples from all over the data."""
    dataset, coverage = experiment.dataset, experiment.classifier.coverage
    batch = dataset.batch(evenly(np.arange(len(dataset)), target.span))
    through = isinstance(method, ApgdBpda)
    flat = blind_samples(target, experiment.threat, batch, straight_through=through)
    # What goes through steps is stopped by no more than what has no stand-in.
    ends = [] if through else coverage.blocked
    doubts = [blocked_gradients(ends, coverage.passable), zero_gradients(flat)]
    return [warning for warning in doubts if warning is not None]
