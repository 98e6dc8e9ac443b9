"""Keep all cores busy: a run of a session on each, rather than every operator cut up for all.

Cores that share an operator wait for each other at its end, and a gradient has hundreds, most of
them short. Runs of their own, over a few samples each, wait for nothing but memory, and for less of
that, since what a few samples leave between two operators is still in a core's cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from cloakify.runtime.devices import Device

Item = TypeVar("Item")
Result = TypeVar("Result")

_here = threading.local()


class Workers:
    """Threads that run sessions side by side.

    On the CPU there is one for each core, and sessions should be opened with ``threads``. Any other
    device takes one run after the other, from the caller's thread.

    Parameters
    ----------
    device
        Where the sessions run.
    count
        How many cores to use; as many as the device may when 0.

    Attributes
    ----------
    count
        Among how many work is dealt; as many runs are there at once, if there are cores for them.
    threads
        Threads within an operator, for :class:`~cloakify.runtime.Session`.
    """

    def __init__(self, device: Device, count: int = 0) -> None:
        self.count = (count or device.shares or device.cores) if device.kind == "cpu" else 1
        self._cores = min(self.count, count or device.cores)
        self.threads = 1 if device.kind == "cpu" else count

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return ``function(item)`` for all items, in their order, computed side by side.

        From within a worker everything is computed there. The first error in the items' order is
        raised; items that nobody has begun by then are left.
        """
        todo = list(items)
        if self.free == 1 or len(todo) < 2:
            return [function(item) for item in todo]
        return list(self._pool.map(function, todo))

    @property
    def free(self) -> int:
        """How many workers the caller can have: one, itself, where it is a worker."""
        return 1 if getattr(_here, "at_work", False) else self.count

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # Its threads end with it.
        return ThreadPoolExecutor(self._cores, "cloakify-worker", initializer=_begin)


def _begin() -> None:
    _here.at_work = True
