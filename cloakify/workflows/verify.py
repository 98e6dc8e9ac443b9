"""Verify: prove from two files that one is the other plus a mask, or tuned gates.

Where a hardened file was transformed since, there is nothing to prove; whether its mask is still in
force can be told all the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto

from cloakify.errors import HeadError, ModelError, UsageError
from cloakify.graph.analysis.attack_point import find_attack_point
from cloakify.graph.analysis.ending import BareEnding, Ending, ending_at
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.graph.edit.gates import has_gates, strip_gates
from cloakify.graph.edit.mask import find_mask, strip_mask
from cloakify.graph.edit.taps import tap
from cloakify.hardening.transformed import Transformed, find_transformed
from cloakify.hardening.transformed_answers import batch_of, run_in_batches
from cloakify.hardening.transformed_gates import find_transformed_gates
from cloakify.limits.stages import comparing, opening
from cloakify.onnxfile import OnnxFile, open_model, path_of, read_metadata
from cloakify.runtime import Device, Session, resolve_device
from cloakify.verification.gate_edit import (
    SHIFTS,
    ending_of,
    folded_names,
    gate_faults,
    gate_runtime_faults,
    is_tuned,
)
from cloakify.verification.mask_edit import check_valid, runtime_faults, structural_faults
from cloakify.verification.sidecars import align_sidecars

# Samples both models are run on, and those that a transformed one is judged by.
SAMPLES = 4
COMPARED = 64
# Of those, one in so many is dark.
DARK = 4
# Sizes tried where axes are symbolic: which of them a model takes can't be told from outside.
SYMBOLIC_SIZES = (64, 224, 32, 28, 256, 128, 96, 299, 384, 512, 1)


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    Attributes
    ----------
    faults
        Every difference that is not the mask; empty when the proof holds.
    summary
        What was proven.
    added
        What is in question, as a sentence names it.
    remarks
        What could not be done besides.
    transformed
        Of a file that is not that, though it may be what became of one: what is left of the mask,
        if it is in force.
    """

    hardened: Path
    source: Path
    faults: tuple[str, ...]
    summary: str
    added: str = "a mask"
    remarks: tuple[str, ...] = ()
    transformed: Transformed | None = None

    def to_dict(self) -> dict[str, object]:
        """Return a JSON document."""
        return {
            "hardened": str(self.hardened),
            "source": str(self.source),
            "verified": not self.faults,
            "faults": list(self.faults),
            "remarks": list(self.remarks),
            "transformed": None if self.transformed is None else self.transformed.to_dict(),
        }


def verify(
    hardened: str | os.PathLike[str],
    source: str | os.PathLike[str],
    device: str = "auto",
    threads: int | None = None,
) -> Verification:
    """Prove that ``hardened`` is ``source`` with a mask before its head, and nothing else.

    By structure (every field of the two messages, the bytes of the sidecars, the metadata), and by
    running both on random samples: with a mask of ones the logits are equal to the bit, with the
    real one they are the head's answer to the masked features. Where the source runs on none, the
    proof by structure stands alone, and a remark says so. A file with tuned gates is proven by
    :mod:`~cloakify.verification.gate_edit`.

    Where the proof fails, and the graph is another one, it may have been optimised, quantised or
    converted after it was hardened. Then it is looked at whether it has its mask in force; see
    :mod:`~cloakify.hardening.transformed`.

    Raises
    ------
    ModelError
        One of the files is no ONNX model, or the source has no head.
    """
    hardened, source = path_of(hardened), path_of(source)
    with opening(source, hardened):
        before, after = open_model(source), open_model(hardened)
        said = read_metadata(after.model)
        tuned = is_tuned(after.model)
    alone = not before.sidecars and not after.sidecars
    if os.path.samefile(before.path, after.path) or (alone and before.sha256 == after.sha256):
        return _equal(before, after)
    with comparing([*before.files, *after.files]):
        try:
            ending = _ending(before, said, tuned)
        except HeadError as error:
            faults = [*_strange_source(before, said), f"{source}: {error}"]
            return Verification(Path(hardened), Path(source), tuple(faults), "")
        edited = folded_names(before.outline, ending, said) if tuned else ()
        model, differing = align_sidecars(before, after, edited)
        own = replace(before, model=before.load_some(edited))
        if tuned or not isinstance(ending, Head):
            faults = gate_faults(own, model, ending) + differing
        else:
            faults = structural_faults(own, model, ending) + differing
        if after.reordered:
            faults.append("graph.node: not in the order of computation, in which files are written")
    remarks: tuple[str, ...] = ()
    transformed: Transformed | None = None
    run_on = resolve_device(device, threads)
    if faults:
        transformed, remarks = _transformed(before, after, ending, faults, run_on)
        faults = _strange_source(before, said) + faults
    else:
        differences = _run_both(before, after, ending, run_on, tuned)
        faults = differences or []
        if differences is None:
            remarks = (
                "the source runs on no random samples of any size tried, so the two were compared "
                "by structure alone",
            )
    summary = _summary(said, ending, tuned)
    added = "tuned gates" if tuned else "a mask"
    return Verification(
        Path(hardened), Path(source), tuple(faults), summary, added, remarks, transformed
    )


def _equal(before: OnnxFile, after: OnnxFile) -> Verification:
    """Return what there is to say of a file and itself, or one that is equal to the byte."""
    same = os.path.samefile(before.path, after.path)
    fault = "both are the same file" if same else "both files are equal, byte by byte"
    hint = "give the file that it was made from"
    told = f"{fault}: nothing was put in; {hint}"
    return Verification(after.path, before.path, (told,), "", added="a mask or tuned gates")


def _ending(before: OnnxFile, said: Mapping[str, str], tuned: bool) -> Head | BareEnding:
    """Find what a file's metadata calls its source's head, or where gates end without one.

    Raises
    ------
    HeadError
        There is none of that name.
    """
    try:
        return find_head(before.outline, said.get("head")).head
    except HeadError:
        if not tuned or "head" not in said:
            raise
    return ending_of(before.outline, ending_at(before.outline, said["head"]), said)


def _transformed(
    before: OnnxFile,
    after: OnnxFile,
    ending: Head | BareEnding,
    faults: Sequence[str],
    device: Device,
) -> tuple[Transformed | None, tuple[str, ...]]:
    """Return what is left of a mask in a file that was transformed, or why there is nothing.

    A file that still is its source's graph plus a mask was not transformed: where its weights or
    its metadata are others, that is what there is to say.
    """
    if _is_tampered(before, after, faults):
        return None, ()
    source, said = before.load_weights(), read_metadata(after.model)
    try:
        feeds = _feeds_for(source, ending, device, COMPARED)
        if feeds is None:
            return None, ()
        return _found_in(source, ending, after.load_weights(), said, feeds, device), ()
    except (ModelError, UsageError) as error:
        return None, (f"nor was it hardened and then transformed: {error}",)


def _found_in(
    source: ModelProto,
    ending: Head | BareEnding,
    file: ModelProto,
    said: Mapping[str, str],
    feeds: Mapping[str, NDArray[np.generic]],
    device: Device,
) -> Transformed:
    """Find a mask or gates in a transformed file; where nothing says which, either.

    Raises
    ------
    ModelError
        There are none, or they are not in force.
    """
    if is_tuned(file) or not isinstance(ending, Head):
        return find_transformed_gates(source, ending, file, said, feeds, device)
    try:
        return find_transformed(source, ending, file, said, feeds, device)
    except ModelError as error:
        if said:
            raise
        try:
            return find_transformed_gates(source, ending, file, said, feeds, device)
        except ModelError as other:
            raise ModelError(f"{error}; and {other}") from None


def _is_tampered(before: OnnxFile, after: OnnxFile, faults: Sequence[str]) -> bool:
    """Tell whether a file has its mask and its source's nodes, but not all else of it."""
    try:
        if has_gates(after.model):
            second = strip_gates(after.model).graph
        elif find_mask(after.model) is not None:
            second = strip_mask(after.model).graph
        elif read_metadata(after.model).get("emit") == "fold":
            second = after.model.graph
        else:
            return False
        first = before.model.graph
    except ModelError:
        return False
    types = [{each.name: each.data_type for each in graph.initializer} for graph in (first, second)]
    if list(first.node) != list(second.node) or types[0] != types[1]:
        return False
    weights = _by_name(first) == _by_name(second)
    changed = not weights and second is not after.model.graph
    # What tools only put into another order is no other value.
    told = [fault for fault in faults if not fault.endswith(": moved")]
    return changed or any(fault.startswith(("metadata ", "graph.initializer")) for fault in told)


def _by_name(graph: GraphProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}


def _summary(said: Mapping[str, str], ending: Ending, tuned: bool) -> str:
    removed, total = said.get("mask.removed"), said.get("mask.total")
    if not tuned:
        return f"{removed} of {total} features of {ending.node!r} masked"
    form = "folded into the weights" if said.get("emit") == "fold" else "as nodes of the graph"
    shifts = f" and {said[SHIFTS]} shifts" if SHIFTS in said else ""
    zeros = "" if removed in (None, "0") else f", {removed} of the gates 0"
    return f"{total} gates{shifts} {form}{zeros}"


def _strange_source(before: OnnxFile, said: Mapping[str, str]) -> list[str]:
    """Say so where another source was hardened: of all that differs then, this is the reason."""
    if said.get("source.sha256", before.sha256) == before.sha256:
        return []
    return [f"its metadata says that it was made from another file than {before.path}"]


def _run_both(
    before: OnnxFile, after: OnnxFile, ending: Head | BareEnding, device: Device, tuned: bool
) -> list[str] | None:
    """List what does not agree; ``None`` where no samples are found that the source runs on."""
    source, hardened = before.load_weights(), after.load_weights()
    try:
        if not before.sidecars:
            check_valid(before.model, after.model, str(after.path))
        feeds = _feeds_for(source, ending, device)
        if feeds is None:
            return None
        if tuned or not isinstance(ending, Head):
            return gate_runtime_faults(source, hardened, ending, feeds, device)
        return runtime_faults(source, hardened, ending, feeds, device)
    except ModelError as error:
        return [str(error)]


def _feeds_for(
    source: ModelProto, ending: Ending, device: Device, samples: int = SAMPLES
) -> dict[str, NDArray[np.generic]] | None:
    """Return random samples that the source runs on, of the first size that it takes."""
    compared = samples == COMPARED
    entry = find_attack_point(source, any_of_floats=True)
    specs = (entry.input, *entry.others)
    fixed = all(size is not None for spec in specs for size in spec.sample_shape)
    session = Session(tap(source, [ending.logits]), device)
    batch = batch_of(source)
    if batch is not None:
        # One batch is enough for what is proven to the bit; else as many batches as hold so many.
        samples = -(-samples // batch) * batch if compared else batch
    for size in SYMBOLIC_SIZES[:1] if fixed else SYMBOLIC_SIZES:
        feeds = {spec.name: _samples(spec, size, samples, batch) for spec in specs}
        try:
            run_in_batches(session, feeds, batch)
        except ModelError:
            continue
        varied = {spec.name: _varied(spec, feeds[spec.name]) for spec in specs}
        return varied if compared and _answers(session, varied, ending, batch) else feeds
    return None


def _answers(
    session: Session,
    feeds: Mapping[str, NDArray[np.generic]],
    ending: Ending,
    batch: int | None,
) -> bool:
    """Tell whether a model answers samples in numbers: some have no logarithm."""
    try:
        answers = run_in_batches(session, feeds, batch)[ending.logits]
        return bool(np.isfinite(answers).all())
    except ModelError:
        return False


def _varied(spec: InputSpec, samples: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return samples every fourth of which is darker, and cut off at 0 and 1.

    Noise alone holds no number twice, and is as bright everywhere: what is done at the black
    borders of pictures would not show. They are no brighter, nor more, as quantised models are made
    for the range of usual samples.
    """
    if spec.dtype.kind != "f" or len(samples) < DARK:
        return samples
    varied = samples.copy()
    dark = varied[DARK - 1 :: DARK].astype(np.float64)
    levels = np.linspace(1, 3, len(dark)).reshape(-1, *[1] * (dark.ndim - 1))
    varied[DARK - 1 :: DARK] = np.clip(4 * dark - levels, 0, 1)
    return varied


def _samples(
    spec: InputSpec, symbolic: int, samples: int, batch: int | None
) -> NDArray[np.generic]:
    """Return random samples that fit the input: uniform in [0, 1], the same at every call.

    Of inputs that take a fixed number ``batch`` of samples alike, several batches.
    """
    count = samples if batch is not None else spec.batch_size or samples
    shape = [count, *(size or symbolic for size in spec.sample_shape)]
    values = np.random.default_rng(0).random(shape)
    # Token ids, bytes and masks: small numbers are valid for every vocabulary.
    return spec.as_taken((values if spec.dtype.kind == "f" else values * 2).astype(spec.dtype))
