"""Hear of every run of a session: what a long step of a run is alive by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Those who are told. Sessions are run from many threads, and by code that knows nothing of whoever
# waits, so that this is the process's.
_listeners: list[Callable[[], None]] = []


@contextmanager
def hearing_runs(listener: Callable[[], None]) -> Iterator[None]:
    """Have ``listener`` called after each run of any session, from the thread that ran it."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell_of_run() -> None:
    """Tell everyone who listens that a session was run."""
    for listener in tuple(_listeners):
        listener()
