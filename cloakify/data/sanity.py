"""Checks that the data fits the model. Each raises DataError: what was seen, where, what to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cloakify.data.naming import shown, some
from cloakify.errors import DataError
from cloakify.numeric.arrays import as_rows, floats

# A sample of so many labels is no list of labels.
MOST_LABELS = 100_000

# Axes of an image.
_OF_IMAGE = 3

# Samples that an error names.
_EXAMPLES = 3


def read_labels(array: NDArray[np.generic], n: int, where: str) -> NDArray[np.int64]:
    """Labels as stored → int64 ``[n]``, or ``[n, K]`` of 0 and 1.

    Parameters
    ----------
    array
        Whole numbers, ``[n]`` or ``[n, 1]``; or 0 and 1, or booleans, ``[n, K]``: whether each of
        K labels holds.
    n
        Number of samples.
    where
        How messages name the labels.

    Raises
    ------
    DataError
        Other than one whole number from 0 up for each sample, or 0 and 1 for each label.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and len(array) == n and array.shape[1] <= MOST_LABELS:
        flags = (array == 0) | (array == 1)
        if not flags.all():
            row = int(np.flatnonzero(~flags.all(axis=1))[0])
            _refuse_shares(array, row, where)
            odd = array[row][~flags[row]][0]
            raise DataError(
                f"{where} has shape {array.shape} and row {row} holds {odd:g}: give a class index "
                "for each sample, or 0 and 1 for each label"
            )
        held: NDArray[np.int64] = (array == 1).astype(np.int64)
        return held
    if array.ndim != 1 or len(array) != n:
        raise DataError(
            f"{where} has shape {array.shape} but there are {n} samples: give one label for each"
        )
    if array.dtype.kind not in "iu":
        raise DataError(
            f"{where} holds {array.dtype}, not whole numbers: store class indices as int64"
        )
    # Unsigned numbers beyond int64 would wrap around to negative ones, and be found here too.
    labels = array.astype(np.int64)
    negative = np.flatnonzero(labels < 0)
    if len(negative):
        row = int(negative[0])
        raise DataError(f"{where} row {row} is {array[row]}: class indices count from 0")
    return labels


def _refuse_shares(array: NDArray[np.generic], row: int, where: str) -> None:
    """Raise DataError where labels are probabilities: which class is right is not for us to say."""
    values = np.asarray(array, np.float64)
    if (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3):
        shares = ", ".join(f"{value:.3g}" for value in values[row][:3])
        more = ", …" * (values.shape[1] > 3)
        raise DataError(
            f"{where} has shape {array.shape} and holds probabilities (row {row}: {shares}{more}), "
            "no labels: give the class that is right for each sample (argmax(axis=1), where that "
            "is the likeliest), or 0 and 1 for each label"
        )


def check_classes(
    labels: NDArray[np.int64] | None,
    class_names: tuple[str, ...] | None,
    num_classes: int,
    where: Callable[[int], str],
) -> None:
    """Check that the classes are the model's.

    Parameters
    ----------
    labels
        int64 ``[n]``, or ``None``.
    class_names
        Names of the classes, where the data names them.
    num_classes
        Number of logits.
    where
        Names the i-th sample, in its place.

    Raises
    ------
    DataError
        Another number of classes than logits, or a label that is no class index.
    """
    if class_names is not None and len(class_names) == 1 < num_classes:
        raise DataError(
            f"the data has one class ({shown(class_names[0])}) but the model has {num_classes} "
            "logits: if that is a folder of the images of all classes, give it as --data, and a "
            "list of their labels by --labels FILE; else name all of the model's classes, in its "
            "order, with --classes"
        )
    if class_names is not None and len(class_names) != num_classes:
        raise DataError(
            f"the data has {len(class_names)} classes ({some(list(class_names))}) but the model "
            f"has {num_classes} logits: give every class its folder, in the model's order, or name "
            "all of its classes in that order with --classes"
        )
    if labels is None or not len(labels):
        return
    beyond = np.flatnonzero(labels >= num_classes)
    if len(beyond):
        # One of each label, the largest first: what is wrong shows soonest there.
        values, first = np.unique(labels[beyond], return_index=True)
        seen = [
            f"{where(int(beyond[place]))} has label {value}"
            for value, place in zip(values[::-1].tolist(), first[::-1].tolist(), strict=True)
        ]
        many = "" if len(beyond) == 1 else f" ({len(beyond)} of {len(labels)} samples have such)"
        # As EMNIST's letters and MATLAB's indices do.
        from_one = labels.min() >= 1 and labels.max() == num_classes
        hint = f"; --classes 1..{num_classes} says that label 1 is the model's class 0"
        raise DataError(
            f"{', '.join(seen[:_EXAMPLES])} but the model has {num_classes} logits{many}: "
            f"labels go from 0 to {num_classes - 1}{hint * bool(from_one)}"
        )


def check_columns(labels: NDArray[np.int64], num_labels: int, where: str) -> None:
    """Raise DataError unless labels [n, K] are as many as the model's."""
    if labels.shape[1] != num_labels:
        raise DataError(
            f"{shown(where)} has {labels.shape[1]} labels a sample, the model {num_labels}: give 0 "
            "or 1 for each of the model's labels, in its order"
        )


def check_values(
    x: NDArray[np.generic],
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    stored: np.dtype[np.generic],
    where: Callable[[int], str],
) -> None:
    """Check that every value is finite and inside the declared range.

    Parameters
    ----------
    x
        Batch ``[b, …]`` in the model's units.
    bounds
        Lower and upper bound in the model's units, broadcastable to a sample; ``None`` to check
        for NaN and infinity only.
    stored
        Element type on file: what it rounds off is forgiven.
    where
        Names the i-th sample of the batch.

    Raises
    ------
    DataError
        NaN, infinity, or a value outside the range.
    """
    if x.dtype.kind == "f":
        slot = _first(~np.isfinite(x))
        if slot is not None:
            kind = "NaN" if np.isnan(x[slot]).any() else f"infinity, or a value beyond {x.dtype}"
            raise DataError(f"{where(slot)} holds {kind}: remove or repair the sample")
    if bounds is None:
        return
    low, high = bounds
    rounding = max(_epsilon(stored), _epsilon(x.dtype))
    size = np.maximum(np.abs(low), np.abs(high)).max()
    slack = np.float32(max(1e-5, 4 * rounding) * float(size))
    values = floats(x)
    slot = _first((values < low - slack) | (values > high + slack))
    if slot is not None:
        _raise_outside(values[slot], low, high, where(slot))


def _raise_outside(
    sample: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], where: str
) -> None:
    least, most = float(sample.min()), float(sample.max())
    if float(low.min()) == 0 and float(high.max()) == 1 and least >= 0 and most <= 255:
        hint = "pass --scale 255 if the model takes 0–255, else divide x by 255"
    else:
        hint = "pass the --scale, --mean and --std that x was preprocessed with"
    if sample.ndim < _OF_IMAGE:
        hint = f"pass --box none if these are no pixels; else {hint}"
    else:
        hint = f"{hint}; --box none is for what is no image"
    raise DataError(
        f"{where} holds values from {least:.4g} to {most:.4g}, but by the declared preprocessing "
        f"the model takes {float(low.min()):.4g} to {float(high.max()):.4g}: {hint}"
    )


def _epsilon(dtype: np.dtype[np.generic]) -> float:
    return float(np.finfo(dtype.str).eps) if dtype.kind == "f" else 0.0


def _first(wrong: NDArray[np.bool_]) -> int | None:
    """Index of the first sample with a wrong value."""
    samples = np.flatnonzero(as_rows(wrong).any(axis=1))
    return int(samples[0]) if len(samples) else None
