"""The proof that a mask is the only change: by structure, and by running both models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from cloakify.boundary import boundary
from cloakify.errors import HeadError, ModelError
from cloakify.graph.analysis.head import Head
from cloakify.graph.edit.mask import find_mask, insert_mask, mask_digest
from cloakify.graph.edit.taps import head_model, tap, value_of_rank
from cloakify.onnxfile import OnnxFile, compare_models, read_metadata, values_of
from cloakify.onnxfile.laid_aside import by_content
from cloakify.onnxfile.mapped import is_mapped
from cloakify.onnxfile.preprocessing_entry import KEY as PREPROCESSING
from cloakify.onnxfile.preprocessing_entry import read_entry
from cloakify.runtime import Device, Session

# Metadata that says how a file was made, and its form. Two files alone can't prove what it says.
CLAIMS = {
    "version": r"\d[\w.+-]*",
    "attack": r"[a-z][a-z0-9-]*",
    "eps": r"\d+(\.\d+)?(e[+-]?\d+)?",
    "seed": r"\d+",
    "data.sha256": r"[0-9a-f]{64}",
}

# Largest difference of logits that is still rounding, relative to the largest logit.
TOLERANCE = 1e-5
# For 16-bit models: so many of the type's own roundings.
ROUNDINGS = 8


def structural_faults(source: OnnxFile, hardened: ModelProto, head: Head) -> list[str]:
    """List every way in which ``hardened`` is not ``source`` plus one mask before the head.

    The mask and the metadata are read off it and put into the source again. That must give the
    file to the last bit, which leaves room for one `Mul`, one initializer (an input of its name, up
    to IR version 3), one rewired edge and `cloakify.*` metadata, and for nothing else.
    """
    said = read_metadata(hardened)
    try:
        installed = find_mask(hardened)
        if installed is None:
            return ["the graph holds no cloakify mask"]
        again = insert_mask(source.model, head, installed.values, said)
    except (HeadError, ModelError) as error:
        return [str(error)]
    mask = installed.values
    facts = {
        "source.sha256": source.sha256,
        "head": head.node,
        "mask.sha256": mask_digest(mask),
        "mask.removed": str(int((mask == 0).sum())),
        "mask.total": str(len(mask)),
    }
    faults = edit_faults(again, hardened)
    faults += metadata_faults(said, facts)
    # Others would scale features: by 1e-40 one is gone that is not counted as masked.
    if not np.isin(mask, (0, 1)).all():
        faults.append("the mask has entries that are neither 0 nor 1")
    return faults


def edit_faults(again: ModelProto, hardened: ModelProto) -> list[str]:
    """List where a file is not what the same edit makes again, to the last bit."""
    return [
        str(difference) for difference in compare_models(by_content(again), by_content(hardened))
    ]


def metadata_faults(
    said: Mapping[str, str], facts: Mapping[str, str], settings: Iterable[str] = ()
) -> list[str]:
    """Compare cloakify's metadata with what was found; none of it may be missing.

    How inputs are made is there only where that was said.

    Parameters
    ----------
    said
        The entries, keys without prefix.
    facts
        What two files can prove, by key.
    settings
        Further keys that the proof itself has used.
    """
    wrong = [
        f"metadata cloakify.{key} says {said.get(key)!r}, found {value!r}"
        for key, value in facts.items()
        if said.get(key) != value
    ]
    for key, form in CLAIMS.items():
        if key not in said:
            wrong.append(f"metadata cloakify.{key} is missing")
        elif not re.fullmatch(form, said[key], re.ASCII):
            wrong.append(f"metadata cloakify.{key} says {said[key]!r}, as harden never does")
    made = said.get(PREPROCESSING)
    if made is not None and read_entry(made) is None:
        wrong.append(f"metadata cloakify.{PREPROCESSING} says {made!r}, as harden never does")
    known = {*facts, *settings, *CLAIMS, PREPROCESSING}
    return wrong + [
        f"metadata cloakify.{key} is not cloakify's" for key in said if key not in known
    ]


def check_valid(source: ModelProto, hardened: ModelProto, what: str) -> str | None:
    """Run onnx's checker on what was made of a source.

    ONNX Runtime takes models that the checker refuses: those that use an operator in the form of an
    opset that calls it deprecated (`GroupNormalization`, 18 to 20), or an attribute that it does
    not have. Of such a source what was put in must give no other reason.

    Parameters
    ----------
    source, hardened
        The models; there is no check of messages whose weights were laid aside.
    what
        What the hardened model is called in the error.

    Returns
    -------
    str | None
        Why the checker refuses both; ``None`` where it does not.

    Raises
    ------
    ModelError
        The checker refuses the hardened model for something that it does not find in the source.
    """
    if any(map(is_mapped, (*source.graph.initializer, *hardened.graph.initializer))):
        # It looks for sidecars, and holds another copy of what it checks.
        return None
    objection = _objection(hardened)
    if objection is not None and objection != _objection(source):
        raise ModelError(f"{what} does not pass onnx's checker: {objection}")
    return objection


def _objection(model: ModelProto) -> str | None:
    """Return the first thing that onnx's checker finds wrong with a model."""
    try:
        with boundary("onnx's checker"):
            onnx.checker.check_model(model)
    except ModelError as error:
        return str(error).removeprefix("onnx's checker: ")
    return None


def runtime_faults(
    source: ModelProto,
    hardened: ModelProto,
    head: Head,
    feeds: Mapping[str, NDArray[np.generic]],
    device: Device,
) -> list[str]:
    """Run both models on the same samples and list what does not agree.

    An all-ones mask must give the source's logits to the bit; the real one must give the head's
    answer to the masked features.
    """
    original = Session(tap(source, [head.features]), device).run(feeds)
    features = original[head.features]
    faults: list[str] = []
    if not _equal_under_ones(source, hardened, head, feeds, device):
        faults.append("with a mask of ones the logits are not the source's to the bit")
    # The head's own output: what picks among its scores may read the inputs too.
    masked = Session(tap(hardened, [head.linear]), device).run(feeds)[head.linear]
    product = features * values_of(_mask_tensor(hardened))
    element_type = onnx.helper.np_dtype_to_tensor_dtype(product.dtype)
    declared = value_of_rank(head.features, element_type, product.ndim)
    try:
        part = head_model(source, declared, head.linear)
    except HeadError as error:
        return [*faults, str(error)]
    expected = Session(part, device).run({head.features: product})[head.linear]
    difference = largest_difference(masked, expected)
    allowed = max(TOLERANCE, ROUNDINGS * _precision(expected.dtype))
    if not difference <= allowed * magnitude(expected):
        faults.append(f"the logits differ from head(φ ∘ m) by {difference:g}")
    return faults


def _equal_under_ones(
    source: ModelProto,
    hardened: ModelProto,
    head: Head,
    feeds: Mapping[str, NDArray[np.generic]],
    device: Device,
) -> bool:
    """Tell whether a mask of ones leaves the logits as they are, to the bit.

    ONNX Runtime may fuse the head of the source with what stands before it and not find that
    pattern behind a mask (quantised heads). Fused sums round otherwise, so the graphs are compared
    as they are written where they do not agree as they are optimised.
    """
    ones = _with_ones(hardened)
    for optimise in (True, False):
        first, second = (
            Session(tap(model, [head.logits]), device, optimise=optimise).run(feeds)[head.logits]
            for model in (source, ones)
        )
        if first.shape == second.shape and first.tobytes() == second.tobytes():
            return True
    return False


def _precision(dtype: np.dtype[np.generic]) -> float:
    """Return the spacing of numbers at 1; a type that NumPy has no name for is bfloat16."""
    return float(np.spacing(np.ones(1, dtype))[0]) if dtype.kind == "f" else 2.0**-7


def largest_difference(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Return the largest difference of two arrays, in double; infinity where shapes differ.

    What is infinite or no number in both alike does not differ.
    """
    if first.shape != second.shape:
        return float("inf")
    one, two = first.astype(np.float64), second.astype(np.float64)
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    return float(np.abs(one[~same] - two[~same]).max(initial=0.0))


def magnitude(values: NDArray[np.generic]) -> float:
    """Return the largest finite absolute value, at least 1: what rounding is relative to."""
    large = np.abs(values.astype(np.float64))
    return float(large[np.isfinite(large)].max(initial=1.0))


def _with_ones(hardened: ModelProto) -> ModelProto:
    changed = ModelProto()
    changed.CopyFrom(hardened)
    tensor = _mask_tensor(changed)
    ones = np.ones_like(values_of(tensor))
    tensor.CopyFrom(onnx.numpy_helper.from_array(ones, tensor.name))
    return changed


def _mask_tensor(hardened: ModelProto) -> TensorProto:
    """Return the tensor of a mask that is known to be there."""
    installed = find_mask(hardened)
    assert installed is not None
    (tensor,) = (each for each in hardened.graph.initializer if each.name == installed.name)
    return tensor
