"""Batches that fit into memory: where one does not, it is halved, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Protocol, TypeVar
from weakref import WeakSet

from cloakify.errors import OutOfMemoryError

Result = TypeVar("Result")


class SessionHolder(Protocol):
    """Holds sessions that it can open again."""

    def let_go(self) -> None:
        """Let go of them."""


class BatchSize:
    """How many samples sessions take at once, and fewer from where memory does not suffice on.

    Shared by all that runs the same samples, so that each need not find out for itself.

    Parameters
    ----------
    size
        To begin with.

    Attributes
    ----------
    first, now
        The size to begin with, and the one at present.
    """

    def __init__(self, size: int) -> None:
        self.first = self.now = size
        self._lock = Lock()
        self._holders: WeakSet[SessionHolder] = WeakSet()

    def let_go_by(self, holder: SessionHolder) -> None:
        """Have a holder of sessions let go of them where memory does not suffice."""
        self._holders.add(holder)

    def at_most(self, size: int) -> BatchSize:
        """Return this, or one of its own for what is not worth larger batches than this size."""
        return self if self.now <= size else BatchSize(size)

    def within_memory(self, work: Callable[[], Result], least: int = 1) -> Result:
        """Return what ``work`` returns; where memory does not suffice, do it again in halves.

        Parameters
        ----------
        work
            Does the same each time, with batches of the size at present.
        least
            A size that can't be halved: a model may have one of its own.

        Raises
        ------
        OutOfMemoryError
            Not even the least size fits.
        """
        while True:
            size = self.now
            try:
                return work()
            except (OutOfMemoryError, MemoryError) as error:
                reason = str(error)
            # Not within the handler, whose traceback holds on to what was allocated.
            if not self._halve(size, least):
                raise OutOfMemoryError(
                    f"memory does not suffice, even for {max(self.now, least)} at once: {reason}"
                )

    @property
    def remark(self) -> tuple[str, ...]:
        """What a user should be told, if anything."""
        if self.now == self.first:
            return ()
        return (
            f"memory did not suffice for {self.first} samples at once; the run went on with "
            f"{self.now}",
        )

    def _halve(self, tried: int, least: int) -> bool:
        """Halve the size unless another worker has done so; tell whether it is smaller now."""
        with self._lock:
            if self.now == tried:
                if tried <= least:
                    return False
                self.now = tried // 2
            for holder in list(self._holders):
                holder.let_go()
            return True
