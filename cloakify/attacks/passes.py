"""What goes through a target in a pass, and what a pass returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloakify.errors import ModelError
from cloakify.numeric.arrays import Array, filled
from cloakify.printable import shape_text
from cloakify.runtime import Device

# In so many parts a batch can be filled; the last few samples of an iterated attack fill one.
PARTS = 4

# How many samples, and what to feed.
Batch = tuple[int, dict[str, NDArray[np.generic]]]


@dataclass(frozen=True)
class Evaluation:
    """What one forward and backward pass returns, for n samples.

    Attributes
    ----------
    logits
        [n, C].
    loss
        [n].
    gradient
        ∂loss/∂input, the shape of the samples.
    """

    logits: Array
    loss: Array
    gradient: Array


@dataclass(frozen=True)
class Step:
    """What one attack step returns, for n samples.

    Attributes
    ----------
    logits, features
        Of the iterate that the step started from: [n, C] and [n, …].
    x
        The next iterate.
    """

    logits: Array
    features: Array
    x: Array


def batches(
    arrays: Mapping[str, NDArray[np.generic]],
    size: int,
    fill_to: Callable[[int], int] | None = None,
) -> Iterator[Batch]:
    """Yield the number of samples and the feeds of each batch.

    The last one is filled up, to ``size`` unless ``fill_to`` tells another size.

    Parameters
    ----------
    arrays
        By input name, all of one length.

    Raises
    ------
    ModelError
        There are no samples.
    """
    count = min(map(len, arrays.values()))
    if not count:
        raise ModelError("no samples to run the model on")
    for start in range(0, count, size):
        part = min(size, count - start)
        filled_size = fill_to(part) if fill_to else size
        feeds = {}
        for name, array in arrays.items():
            feeds[name] = filled(array[start : start + part], filled_size)
        yield part, feeds


def of_samples(output: Array, name: str, size: int, part: int) -> Array:
    """Return what an output holds of the first ``part`` of ``size`` samples, these in front.

    An ArrayFeatureExtractor has them behind an axis of 1. Of what has several rows a sample (crops
    that are folded into the batch), all.

    Raises
    ------
    ModelError
        There are not as many numbers for each.
    """
    rows = len(output) if output.ndim else 0
    if rows == size or (rows > size and rows % size == 0):
        return output[:part] if rows == size else output
    if output.size % size:
        raise ModelError(
            f"the output {name!r} of {size} samples has shape {shape_text(output.shape)}"
        )
    return output.reshape(size, -1)[:part]


def check_scores(
    outputs: Mapping[str, NDArray[np.generic]], name: str, samples: int, num_classes: int
) -> None:
    """Raise ModelError where scores were asked for and are not one for each sample and class.

    Parameters
    ----------
    outputs
        What a pass returned, by name.
    name
        Of the scores.
    """
    scores = outputs.get(name)
    if scores is None or (len(scores) == samples and scores.size == samples * num_classes):
        return
    why = "what answers at many positions (a segmenter, a recogniser) is no classifier"
    if scores.shape == (num_classes, samples):
        why = "the classes lie along their first axis; export the model with samples first"
    elif scores.size < samples * num_classes or scores.size % samples:
        why = (
            "the first axis of what it takes does not count samples; export it with one that does, "
            "in front of all others"
        )
    raise ModelError(
        f"the scores {name!r} of {samples} samples have shape {shape_text(scores.shape)}, not one "
        f"for each of {num_classes} classes a sample: {why}"
    )


def part_sizes(batch_size: int, *, fixed: bool) -> list[int]:
    """Return the batch sizes that gradient graphs are built for, as they are needed; ascending.

    Few samples would otherwise pay for a full batch.
    """
    if fixed or batch_size < 2 * PARTS:
        return [batch_size]
    return [-(-batch_size * part // PARTS) for part in range(1, PARTS + 1)]


def lane_sizes(batch_size: int, *, fixed: bool) -> list[int]:
    """Return those of an iterated attack, ascending: for all samples, and for the last few.

    How many are left falls slowly, and is never long what another graph would be built for.
    """
    return part_sizes(batch_size, fixed=fixed)[:: PARTS - 1]


def forward_size(samples: int, batch_size: int, device: Device) -> int:
    """Return the batch size for a forward pass of some samples, where the model takes any."""
    if device.kind == "cpu":
        return samples
    # CUDA looks for the best algorithm anew for every shape: few shapes, then.
    return min(1 << (samples - 1).bit_length(), batch_size)
