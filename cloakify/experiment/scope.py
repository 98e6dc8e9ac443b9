"""What lasts as long as a run: workers of a cluster, and copies of data that lie elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path

from cloakify.data import Samples
from cloakify.data.fetching import Told, fetch
from cloakify.settings.urls import own_file, url_of
from cloakify.temporary import own_folder, remove_folder

# (stage, done, total): called as a run goes on.
Progress = Callable[[str, int, int], None]

# The URLs of copies, by where these are.
_urls: dict[Path, str] = {}


class Scope:
    """A run: what is to be closed at its end, and whom it tells how far it is.

    Attributes
    ----------
    stack
        Closed at the end.
    progress
        Told of work.
    notes
        What was fetched.
    """

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.progress: Progress = lambda stage, done, total: None
        self.notes: list[str] = []


_scope: ContextVar[Scope] = ContextVar("scope")


@contextmanager
def all_let_go() -> Iterator[None]:
    """Let go, at the end of a block or of a function that this decorates, of all that it holds."""
    scope = Scope()
    with scope.stack:
        token = _scope.set(scope)
        try:
            yield
        finally:
            _scope.reset(token)


def current() -> Scope:
    """Return the run that :func:`all_let_go` has begun."""
    return _scope.get()


def brought_here(samples: Samples) -> Samples:
    """Return samples as they can be opened here: a copy of those that are given by a URL.

    It is removed when the run ends, or with a worker's process.

    Raises
    ------
    UsageError, DeviceError, DataError
        See :func:`cloakify.data.fetching.fetch`.
    """
    url = url_of(samples)
    if url is None:
        return samples
    own = own_file(url)
    if own is not None:
        return own
    folder = own_folder()
    scope = _scope.get(None)
    if scope is not None:
        scope.stack.callback(remove_folder, folder)
    # What holds sockets, or other copies, may be told from this one.
    place = folder / "data"
    place.mkdir()
    fetched = fetch(url, place, None if scope is None else _telling(scope.progress))
    _urls[fetched.path] = url
    if scope is not None:
        scope.notes.append(fetched.note)
    return fetched.path


def url_behind(path: Path) -> str | None:
    """Return the URL that a path is a copy of."""
    return _urls.get(path)


def _telling(progress: Progress) -> Told:
    last = -1

    def tell(done: int, total: int) -> None:
        nonlocal last
        megabytes = done >> 20
        if megabytes != last:
            last = megabytes
            progress("fetching, MiB", megabytes, max(total >> 20, megabytes, 1))

    return tell
