"""The state of a tuning run as a file, so that a stopped run can go on."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import astuple
from zipfile import BadZipFile, ZipFile

import numpy as np

from cloakify.errors import DataError
from cloakify.masking.tuning_state import Checkpoint, GateMetrics, TuningState
from cloakify.numeric.adam import Adam
from cloakify.numeric.arrays import Doubles
from cloakify.onnxfile import atomic_write

# What NumPy and zipfile raise of files with a byte that is another.
_DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, zlib.error),
    *(RuntimeError, OverflowError, MemoryError, AttributeError),
)


def save_state(state: TuningState, path: str | os.PathLike[str], name: str) -> None:
    """Write a state to an ``.npz`` file, whole or not at all.

    Parameters
    ----------
    name
        What the run is of: model, data and settings. Only the same run goes on from it.
    """
    points = state.checkpoints
    with atomic_write(path) as file:
        np.savez(
            file,
            name=np.array(name),
            counts=np.array([state.step, state.attack_steps]),
            clean_weight=np.array(state.clean_weight),
            adam_counts=np.array([adam.count for adam in state.adams]),
            adams=np.stack([[adam.theta, adam.mean, adam.square] for adam in state.adams]),
            steps=np.array([point.step for point in points]),
            thetas=np.stack([point.theta for point in points]),
            metrics=np.array([astuple(point.metrics) for point in points]),
        )


def load_state(path: str | os.PathLike[str], name: str, shape: tuple[int, int]) -> TuningState:
    """Read what :func:`save_state` wrote.

    Parameters
    ----------
    name
        What the run is of, as it was saved.
    shape
        How many folds and parameters there are.

    Raises
    ------
    DataError
        The file is no such file, or that of another run.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            _check_size(file.zip, os.path.getsize(path))
            arrays = {key: file[key] for key in file.files}
        saved_name = str(arrays["name"])
        step, attack_steps = (int(number) for number in arrays["counts"])
        clean_weight = float(arrays["clean_weight"])
        adams = tuple(
            Adam(theta, mean, square, int(count))
            for (theta, mean, square), count in zip(
                arrays["adams"], arrays["adam_counts"], strict=True
            )
        )
        checkpoints = tuple(
            Checkpoint(int(place), values, _metrics(numbers))
            for place, values, numbers in zip(
                arrays["steps"], arrays["thetas"], arrays["metrics"], strict=True
            )
        )
        if saved_name == name:
            _check_numbers(arrays, shape)
    except _DAMAGED as error:
        raise DataError(
            f"{path}: holds no state of a tuning run ({error}); remove it to start anew"
        ) from error
    if saved_name != name:
        raise DataError(
            f"{path}: is of another run (other model, data or settings); remove it to start anew"
        )
    return TuningState(step, adams, attack_steps, clean_weight, checkpoints)


def _check_size(archive: ZipFile, size: int) -> None:
    """Raise ValueError where arrays claim more than the file holds: nothing in it is packed."""
    if sum(member.file_size for member in archive.infolist()) > size:
        raise ValueError("it claims to unpack to more than it holds")


def _check_numbers(arrays: Mapping[str, Doubles], shape: tuple[int, int]) -> None:
    """Raise ValueError where arrays do not fit each other or the run, or hold what is no number."""
    adams, thetas = arrays["adams"], arrays["thetas"]
    folds, count = shape
    if adams.shape != (folds, 3, count) or thetas.shape != (len(arrays["steps"]), folds, count):
        raise ValueError("its arrays do not fit each other")
    numbers = [each for name, each in arrays.items() if name != "name"]
    if not all(np.isfinite(each).all() for each in numbers):
        raise ValueError("it holds what is no number")
    if arrays["counts"].min() < 0:
        raise ValueError("it has negative counts")


def _metrics(numbers: Doubles) -> GateMetrics:
    *counts, lost, doubt = numbers.tolist()
    count, clean_count, clean, robust, single = map(int, counts)
    return GateMetrics(count, clean_count, clean, robust, single, lost, doubt)
