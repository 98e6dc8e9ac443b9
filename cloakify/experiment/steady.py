"""Progress that never looks as if a run stood still."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cloakify.experiment.experiment import Progress
from cloakify.runtime.runs import hearing_runs

# Seconds after which what was told last is told again, with how often the model was run.
PAUSE = 1.0


class SteadyProgress:
    """Hands progress on, and tells of single runs of the model where a stage takes its time.

    What is told in between has the stage's name, a dot, and a count. A stage that is over is never
    told again: work that nobody has announced by then goes by a name of its own.

    Parameters
    ----------
    progress
        Where it goes. Called from any thread, by one at a time.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._stage, self._done, self._total = "starting", 0, 1
        self._last, self._runs = time.monotonic(), 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell of a stage."""
        with self._lock:
            if stage != self._stage:
                self._runs = 0
            self._tell(stage, done, total)

    def run_heard(self) -> None:
        """Count a run of the model, and tell of it after a pause."""
        with self._lock:
            self._runs += 1
            if time.monotonic() - self._last < PAUSE:
                return
            if self._done >= self._total:
                self._stage, self._done, self._total = f"work after {self._stage}", 0, 1
                self._runs = 1
            name = self._stage
            self._tell(f"{name} · {self._runs} runs", self._done, self._total)
            self._stage = name

    def _tell(self, stage: str, done: int, total: int) -> None:
        self._stage, self._done, self._total = stage, done, total
        self._last = time.monotonic()
        self._progress(stage, done, total)


@contextmanager
def steady(progress: Progress) -> Iterator[Progress]:
    """Yield progress that also tells of single runs of models, as long as the block lasts."""
    kept = SteadyProgress(progress)
    with hearing_runs(kept.run_heard):
        yield kept
