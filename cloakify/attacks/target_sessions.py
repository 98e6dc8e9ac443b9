"""The sessions of a target: opened when they are first asked for, and kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.errors import about
from cloakify.graph.attack_steps.build import GradientSpec, build_gradient
from cloakify.graph.edit.taps import tap
from cloakify.runtime import Device, Session


@dataclass(frozen=True)
class Followed:
    """Whose gradients attacks on a target follow, where it is not the target's own graph.

    Attributes
    ----------
    sessions
        Of a graph that computes the same from the same samples, with further inputs.
    constants
        What these are fed: the same for every sample.
    """

    sessions: TargetSessions
    constants: Mapping[str, NDArray[np.generic]]


class TargetSessions:
    """Sessions of the shipped graph, and of its differentiated working copies.

    Parameters
    ----------
    model
        The model with its weights in it.
    device
        Where they run.
    threads
        Within an operator.
    name
        What errors call the model: the path of its file.
    """

    def __init__(
        self, model: ModelProto, device: Device, threads: int, name: str | os.PathLike[str]
    ) -> None:
        self._model, self._device, self._threads, self._name = model, device, threads, name
        self._kept: dict[object, Session] = {}
        # Workers may ask for the same session at the same time.
        self._opening = Lock()

    @property
    def kept(self) -> tuple[Session, ...]:
        """Those that are open."""
        return tuple(self._kept.values())

    def let_go(self) -> None:
        """Close all that are not running; they are opened again where they are needed."""
        with self._opening:
            self._kept.clear()

    def forward(self, names: Sequence[str], *, exact: bool = True) -> Session:
        """Return a session of the shipped graph whose outputs are the values of these names."""
        return self._session(
            (tuple(names), exact),
            lambda: Session(
                tap(self._model, list(dict.fromkeys(names))),
                self._device,
                threads=self._threads,
                forward=True,
                exact=exact,
            ),
        )

    def gradient(self, shapes: Mapping[str, tuple[int, ...]], spec: GradientSpec) -> Session:
        """Return a session of the working copy for inputs of these shapes."""
        return self._session(
            (tuple(shapes.items()), spec),
            lambda: Session(
                build_gradient(self._model, shapes, spec),
                self._device,
                threads=self._threads,
                both_ways=True,
            ),
        )

    def _session(self, key: object, opened: Callable[[], Session]) -> Session:
        with self._opening, about(self._name):
            if key not in self._kept:
                self._kept[key] = opened()
            return self._kept[key]
