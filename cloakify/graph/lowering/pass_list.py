"""The passes from a model to a working copy that gradient rules can be written against, in order.

Each says what must hold before it, what holds after it, and what it may undo; a test holds them to
that on small models. Nothing changes what the model computes, but for 16-bit floats, which become
32-bit ones so that gradients do not underflow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from cloakify.graph.lowering.ceil_mode_pooling import drop_last_windows
from cloakify.graph.lowering.control_flow import write_out_control_flow
from cloakify.graph.lowering.decompositions.catalogue import write_out
from cloakify.graph.lowering.fold_shapes import fold_constants, infer, observe_shapes
from cloakify.graph.lowering.functions import expand_functions, inline_local_functions
from cloakify.graph.lowering.half_precision import widen_halves
from cloakify.graph.lowering.input_shapes import fix_input_shapes
from cloakify.graph.lowering.opset import modernise
from cloakify.graph.lowering.rename_collisions import free_names
from cloakify.graph.lowering.sequences import write_out_sequences
from cloakify.graph.lowering.state import Lowering
from cloakify.graph.lowering.unsigned_weights import store_unsigned_weights
from cloakify.graph.model.rewrite import cut


class Property(Enum):
    """What may hold of a working copy."""

    CALLS_NO_FUNCTIONS = "no node calls a function of the model's own"
    LEAVES_NAMES = "no value can be taken for one that cloakify adds"
    ENDS_AT_WANTED = "every node leads to a value that is wanted"
    RECENT_OPSET = "operators have the form of the working opset"
    FIXED_INPUTS = "every data input has the shape that it is to have"
    NO_HALVES = "no value is a 16-bit float"
    NO_BODIES = "no operator that may not stay has a body in the standard"
    STATIC_SHAPES = "the shape and type of every value are known"
    FOLDED = "nothing small is computed from constants and known shapes"
    NO_COMPOSITES = "no operator that may not stay can be written out as others"
    ONE_SIGN = "no product of 8-bit numbers is one of unsigned and stored signed numbers"


P = Property


@dataclass(frozen=True)
class Pass:
    """One step.

    Attributes
    ----------
    name
        As it is spoken of.
    run
        Changes the working copy in place; tells whether it did.
    needs, gives, breaks
        What must hold before, what holds afterwards, and what need not hold any more.
    """

    name: str
    run: Callable[[Lowering], bool]
    needs: frozenset[Property] = frozenset()
    gives: frozenset[Property] = frozenset()
    breaks: frozenset[Property] = frozenset()


def _expand_functions(lowering: Lowering) -> bool:
    if lowering.keep is None:
        return False
    lowering.model = expand_functions(lowering.model, lowering.keep)
    return True


def _modernise(lowering: Lowering) -> bool:
    lowering.model = modernise(lowering.model)
    return True


def _cut(lowering: Lowering) -> bool:
    if lowering.outputs is not None:
        cut(lowering.model, lowering.outputs)
    return lowering.outputs is not None


def _write_out(lowering: Lowering) -> bool:
    if lowering.keep is None or not write_out(lowering.model, lowering.shapes, lowering.types):
        return False
    lowering.shapes = {}
    return True


UNTIL_STATIC: tuple[Pass, ...] = (
    Pass("infer shapes", infer),
    Pass("drop last windows", lambda at: drop_last_windows(at.model, at.shapes)),
    Pass("fold constants", fold_constants),
    Pass("write out sequences", lambda at: write_out_sequences(at.model, at.shapes)),
    Pass("write out control flow", lambda at: write_out_control_flow(at.model, at.shapes)),
    Pass("observe shapes", observe_shapes),
)
"""Begun anew as soon as one has changed anything, until none does: each lets others see further."""


def _settle_shapes(lowering: Lowering) -> bool:
    if lowering.shapes:
        # Nothing was written since.
        return False
    while any(step.run(lowering) for step in UNTIL_STATIC):
        pass
    return True


def _settle(name: str) -> Pass:
    return Pass(
        name,
        _settle_shapes,
        needs=frozenset({P.CALLS_NO_FUNCTIONS, P.RECENT_OPSET, P.FIXED_INPUTS}),
        gives=frozenset({P.STATIC_SHAPES, P.FOLDED}),
        breaks=frozenset({P.ENDS_AT_WANTED}),
    )


UNRUN: tuple[Pass, ...] = (
    Pass("inline local functions", inline_local_functions, gives=frozenset({P.CALLS_NO_FUNCTIONS})),
    Pass("free names", free_names, gives=frozenset({P.LEAVES_NAMES})),
    Pass("cut", _cut, gives=frozenset({P.ENDS_AT_WANTED})),
    Pass(
        "modernise",
        _modernise,
        needs=frozenset({P.CALLS_NO_FUNCTIONS}),
        gives=frozenset({P.RECENT_OPSET}),
    ),
    Pass("fix input shapes", fix_input_shapes, gives=frozenset({P.FIXED_INPUTS})),
    Pass(
        "expand functions",
        _expand_functions,
        needs=frozenset({P.RECENT_OPSET}),
        gives=frozenset({P.NO_BODIES}),
    ),
)
"""Those that neither run any part of the model nor read a weight."""

PASSES: tuple[Pass, ...] = (
    *UNRUN,
    Pass("widen halves", widen_halves, gives=frozenset({P.NO_HALVES})),
    _settle("settle shapes"),
    Pass(
        "write out composites",
        _write_out,
        needs=frozenset({P.STATIC_SHAPES}),
        gives=frozenset({P.NO_COMPOSITES}),
        breaks=frozenset({P.STATIC_SHAPES, P.FOLDED}),
    ),
    _settle("settle what was written"),
    Pass(
        "store unsigned weights",
        store_unsigned_weights,
        needs=frozenset({P.STATIC_SHAPES}),
        gives=frozenset({P.ONE_SIGN}),
    ),
)
