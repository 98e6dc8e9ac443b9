"""Find a classifier's head and what its scores mean, or say what a model is that is none.

To attack and to judge it takes scores alone, so that where nobody needs a head there may be none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.errors import HeadError, UsageError
from cloakify.graph.analysis.bare_scores import refuse_answers
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.head_search import answers_in, find_head_in, unread_outputs
from cloakify.graph.analysis.order_kept import bent_scores
from cloakify.graph.analysis.other_answers import ONE_OUTPUT, OutputChoice, output_choice
from cloakify.graph.analysis.other_models import (
    classifier_without_layer,
    leaves_positions_open,
    refuse_classes_first,
    refuse_detector,
    refuse_map,
    refuse_positions,
)
from cloakify.graph.analysis.sample_axis import has_samples_second
from cloakify.graph.analysis.score_choice import ChosenScores, choose_scores
from cloakify.graph.analysis.score_meaning import Meaning, read_meaning
from cloakify.graph.analysis.scores import Scores, scores_at, scores_of
from cloakify.graph.analysis.task import Task, TaskReading
from cloakify.graph.model.branches import write_out_branches
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.shapes import import_with_shapes


@dataclass(frozen=True)
class Wanted:
    """What a user says of a model.

    Attributes
    ----------
    head
        Name of the linear node to take (or of its output).
    output
        Name of the output to take for the answer, of several.
    task
        What the scores mean; ``None`` to read it off the graph.
    threshold
        Probability from which on one logit means class 1, or that a label holds.
    """

    head: str | None = None
    output: str | None = None
    task: Task | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class ClassifierSearch:
    """A classifier's head, the linear layers that were not taken, and what the scores mean.

    Attributes
    ----------
    head
        ``None`` where there is none and nobody needs one; ``problem`` then says why.
    mixed
        Whether more goes into the scores than the head's own, which is a classifier in one node:
        its probabilities have to be what they are in working copies, too.
    features_turned
        Whether the features seem to have the samples on their second axis, whatever goes in.
    outputs
        Which output is taken for the answer, where others could be meant.
    positions_open
        Whether only a run tells if there is one answer a sample, or one at each of many positions.
    """

    head: Head | None
    alternatives: tuple[Head, ...]
    reading: TaskReading
    scores: Scores
    problem: str = ""
    positions_open: bool = False
    mixed: bool = False
    features_turned: bool = False
    outputs: OutputChoice = ONE_OUTPUT

    @property
    def shipped_count(self) -> int:
        """How many numbers the shipped graph's scores have for a sample: 1 for one logit."""
        return self.scores.shipped_count

    def as_labels(self, sign: str) -> ClassifierSearch:
        """Return the same with scores that are those of independent labels, and what tells so."""
        reading = replace(self.reading, task=Task.MULTILABEL, sign=sign)
        own = self.scores
        scores = scores_at(own.shipped, self.shipped_count, reading, own.outputs)
        scores = replace(
            scores,
            features=own.features,
            # Those of labels are no shares of a whole.
            probabilities=own.probabilities and own.logs is None,
            scale=own.scale,
        )
        if self.head is not None:
            scores = scores.of_parts(self.head)
        scores = scores.with_boundary(reading.boundary)
        return replace(self, reading=reading, scores=scores)


def find_classifier(
    model: ModelProto, wanted: Wanted | None = None, *, needs_head: bool = True
) -> ClassifierSearch:
    """Find the head and the task of a classifier.

    Parameters
    ----------
    model
        The model; its weights need not be loaded.
    wanted
        What is known of it already.
    needs_head
        Whether features are to be masked. To attack or to judge any of several layers does whose
        scores are mixed, and where there is none, what the outputs are made of.

    Raises
    ------
    HeadError
        The model is no classifier, with what it is; or as
        :func:`~cloakify.graph.analysis.head_search.find_head` raises it.
    UsageError
        What is wanted the model has not.
    """
    wanted = wanted or Wanted()
    model = write_out_branches(model)
    graph = import_with_shapes(model)
    if wanted.output is not None:
        graph.outputs = [_output(graph, wanted.output)]
        # What leads to others is no reader of the scores any more.
        graph.cleanup()
    unread = unread_outputs(graph)
    answers = answers_in(graph, unread)
    if wanted.head is None:
        refuse_detector(graph, unread)
    constants = Constants(graph)
    head, alternatives, problem = _head_in(
        graph, model, wanted, answers, constants, needs_head=needs_head
    )
    chosen = choose_scores(graph, answers, head, constants, is_named=wanted.head is not None)
    if chosen.problem and needs_head:
        raise HeadError(chosen.problem)
    bare = chosen.scores
    refuse_positions(graph, bare.tensor, bare.count)
    refuse_classes_first(graph, bare.tensor, bare.count)
    meaning = read_meaning(graph, chosen, constants, wanted.task)
    scores = _scores(graph, chosen, meaning)
    if wanted.threshold is not None:
        scores = scores.with_threshold(wanted.threshold)
    return ClassifierSearch(
        head=chosen.head,
        alternatives=alternatives,
        reading=meaning.reading,
        scores=scores,
        problem=problem or chosen.problem,
        positions_open=leaves_positions_open(graph, answers, bare.count),
        mixed=chosen.mixed,
        features_turned=has_samples_second(graph.tensors()[scores.features], bare.tensor),
        outputs=output_choice(graph, bare.tensor, alternatives, constants),
    )


def _head_in(
    graph: gs.Graph,
    model: ModelProto,
    wanted: Wanted,
    answers: list[gs.Tensor],
    constants: Constants,
    *,
    needs_head: bool,
) -> tuple[Head | None, tuple[Head, ...], str]:
    """Return the head, what else could be it, and why there is none where nobody needs one."""
    try:
        search = find_head_in(
            graph,
            model,
            wanted.head,
            any_mixed=not needs_head,
            constants=constants,
            answers=answers,
        )
    except HeadError as error:
        refuse_map(graph, answers)
        if wanted.head is None:
            refuse_answers(answers, constants)
        problem = classifier_without_layer(graph, answers) or str(error)
        if needs_head or wanted.head is not None:
            raise HeadError(problem) from None
        return None, (), problem
    return search.head, search.alternatives, ""


def _scores(graph: gs.Graph, chosen: ChosenScores, meaning: Meaning) -> Scores:
    """Describe the scores for whoever attacks or judges by them."""
    bare, layer = chosen.scores, chosen.layer
    outputs = [output.name for output in graph.outputs]
    if chosen.head is None:
        scores = scores_at(bare.tensor.name, bare.count, meaning.reading, outputs)
    else:
        scores = scores_of(chosen.head, meaning.reading, outputs)
    if chosen.mixed:
        scores = replace(scores, probabilities=False)
    if meaning.logs is not None:
        scores = scores.of_logarithms(meaning.logs)
    if meaning.groups is not None:
        scores = scores.as_pairs(meaning.groups)
    if layer is not None and not chosen.pooled and scores.task is Task.SINGLE:
        scores = replace(scores, layer=bent_scores(layer.tensor, layer.count, bare.count))
    return scores


def _output(graph: gs.Graph, name: str) -> gs.Tensor:
    named = [output for output in graph.outputs if output.name == name]
    if not named:
        names = ", ".join(repr(output.name) for output in graph.outputs[:5])
        raise UsageError(f"--output-name: the model has no output {name!r}; it has {names}")
    return named[0]
