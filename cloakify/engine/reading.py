"""Read samples while those before them are worked on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cloakify.data import Batch
from cloakify.numeric.arrays import Indices


class Reader:
    """Reads chunks of samples, those that are likely to come next on a thread of its own.

    The thread ends with it.

    Parameters
    ----------
    load
        Reads a chunk.
    """

    def __init__(self, load: Callable[[Indices], Batch]) -> None:
        self._load = load
        self._thread = ThreadPoolExecutor(1, "cloakify-data")
        self._ahead: dict[bytes, Future[Batch]] = {}

    def read(self, chunk: Indices, following: Sequence[Indices]) -> Batch:
        """Return a chunk's samples; begin to read the following ones, and forget all others.

        An error in reading is raised where its chunk is asked for.
        """
        known = self._ahead.pop(chunk.tobytes(), None)
        wanted = {each.tobytes(): each for each in following}
        for key in [key for key in self._ahead if key not in wanted]:
            self._ahead.pop(key).cancel()
        # By that thread alone, whatever it may still be at.
        batch = (known or self._thread.submit(self._load, chunk)).result()
        for key, each in wanted.items():
            if key not in self._ahead:
                self._ahead[key] = self._thread.submit(self._load, each)
        return batch

    def forget(self) -> None:
        """Forget what was read ahead."""
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()
