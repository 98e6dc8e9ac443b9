"""The state of a tuning run as a file, so that a stopped run can go on."""

from __future__ import annotations

import os
import zlib
from dataclasses import astuple
from zipfile import BadZipFile

import numpy as np

from cloakify.errors import DataError
from cloakify.masking.tuning import Checkpoint, GateMetrics, TuningState
from cloakify.numeric.adam import Adam
from cloakify.onnxfile import atomic_write


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
            counts=np.array([state.step, state.attack_steps, state.adam.count]),
            clean_weight=np.array(state.clean_weight),
            adam=np.stack([state.adam.theta, state.adam.mean, state.adam.square]),
            steps=np.array([point.step for point in points]),
            thetas=np.stack([point.theta for point in points]),
            metrics=np.array([astuple(point.metrics) for point in points]),
        )


def load_state(path: str | os.PathLike[str], name: str) -> TuningState:
    """Read what :func:`save_state` wrote.

    Raises
    ------
    DataError
        The file is no such file, or that of another run.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        saved_name = str(arrays["name"])
        step, attack_steps, count = (int(number) for number in arrays["counts"])
        clean_weight = float(arrays["clean_weight"])
        theta, mean, square = arrays["adam"]
        checkpoints = tuple(
            Checkpoint(int(place), values, GateMetrics(*(int(number) for number in counts)))
            for place, values, counts in zip(
                arrays["steps"], arrays["thetas"], arrays["metrics"], strict=True
            )
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: holds no state of a tuning run ({error}); remove it to start anew"
        ) from error
    if saved_name != name:
        raise DataError(
            f"{path}: is of another run (other model, data or settings); remove it to start anew"
        )
    adam = Adam(theta, mean, square, count)
    return TuningState(step, adam, attack_steps, clean_weight, checkpoints)
