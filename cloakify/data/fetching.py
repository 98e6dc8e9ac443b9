"""Copies of samples that lie elsewhere: fetched once, whole, into a folder of this machine.

Nothing but the requests that this takes leaves the machine, and these only for a URL that the user
has given. How a store is reached, and with which credentials, is its fsspec file system's business.
Needs fsspec and the store's own package: ``pip install 'cloakify[remote]'``, or one of ``[s3]``,
``[gs]`` and ``[hf]``.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloakify.data.naming import call, shown, some
from cloakify.data.remote_listing import RemoteFile, list_store, list_web
from cloakify.data.room import amount, place_in, room_in
from cloakify.errors import CloakifyError, DataError, DeviceError, UsageError
from cloakify.settings.urls import WEB, scheme_of, without_secrets

# Where else there is something to fetch: the extra for it, and the package that is asked.
STORES = {
    "s3": ("s3", "s3fs"),
    "gs": ("gs", "gcsfs"),
    "gcs": ("gs", "gcsfs"),
    "hf": ("hf", "huggingface_hub"),
    "memory": ("remote", "fsspec"),
}

# Files under way at once.
AT_ONCE = 8

# Seconds without an answer after which a web server counts as gone.
PATIENCE = 60

Told = Callable[[int, int], None]
"""Told of the bytes that were fetched so far, and of all, 0 where that is not known."""


@dataclass(frozen=True)
class Fetched:
    """A copy.

    Attributes
    ----------
    path
        What is to be opened in the URL's place: a file, a folder, or a pattern.
    note
        What was fetched, as a sentence.
    """

    path: Path
    note: str


def fetch(url: str, folder: Path, tell: Told | None = None) -> Fetched:
    """Fetch what a URL stands for: a file, a folder with all below it, or a pattern of files.

    Parameters
    ----------
    folder
        An empty one, which the copy goes into, and which is the caller's to remove.
    tell
        Told how far it is, one thread at a time.

    Raises
    ------
    UsageError
        Nothing is fetched from such a URL.
    DeviceError
        A package that it takes is not installed.
    DataError
        It is not there, can't be reached or be listed, is too large, or changes meanwhile.
    """
    shown_url = shown(without_secrets(url))
    system = _system(url)
    with _reaching(shown_url):
        list_all = list_web if scheme_of(url) in WEB else list_store
        listing = list_all(system, url)
        files = listing.files
        total = sum(file.size or 0 for file in files)
        limit = room_in(folder)
        if total > limit:
            raise DataError(_too_large(shown_url, total, limit, folder))
        call(folder, shown(without_secrets(listing.prefix)))
        places = [place_in(folder, file.place, shown_url) for file in files]
        known = all(file.size is not None for file in files)
        too_large = _too_large(shown_url, 0, limit, folder)
        counter = _Counter(limit, total if known else 0, tell, too_large)
        threads = ThreadPoolExecutor(AT_ONCE, "cloakify-fetch")
        try:
            under_way = [
                threads.submit(_fetch_one, system, *each, counter)
                for each in zip(files, places, strict=True)
            ]
            for each in under_way:
                each.result()
        finally:
            # Those that are under way notice it with their next bytes; nobody waits for them.
            counter.stopped.set()
            threads.shutdown(wait=False, cancel_futures=True)
        system.invalidate_cache()
        _check_unchanged(files, list_all(system, url).files, shown_url)
    size = sum(place.stat().st_size for place in places)
    count = "" if len(files) == 1 else f"{len(files)} files, "
    note = f"{shown_url} was fetched ({count}{amount(size)})"
    return Fetched(folder / listing.rest if listing.rest else folder, note)


def _system(url: str) -> Any:
    """Return the file system that a URL names.

    Raises
    ------
    UsageError, DeviceError
        See :func:`fetch`.
    """
    scheme, safe = scheme_of(url), shown(without_secrets(url))
    if scheme not in (*WEB, *STORES):
        raise UsageError(
            f"{safe}: nothing is fetched by {scheme}://, but by "
            f"{', '.join(f'{each}://' for each in (*WEB, *STORES))} and file://"
        )
    if scheme in WEB and urlsplit(url).password is not None:
        raise UsageError(
            "a password stands in the URL, and would stand in reports: put it into ~/.netrc"
        )
    extra, package = STORES.get(scheme, ("remote", "aiohttp"))
    # Its client would say in each request which libraries are installed.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise DeviceError(
            f"{safe} takes fsspec and {package}: pip install 'cloakify[{extra}]' (or fetch the "
            "data yourself, and give the path)"
            if package != "fsspec"
            else f"{safe} takes fsspec: pip install 'cloakify[{extra}]'"
        ) from error
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if scheme in WEB:
        import aiohttp

        waits = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE, sock_read=PATIENCE)
        options["client_kwargs"] = {"timeout": waits, "trust_env": True}
    with _reaching(safe):
        return kind(**options)


class _Counter:
    """Bytes that were fetched so far, by all threads together; no more than there is room for."""

    def __init__(self, limit: int, total: int, tell: Told | None, too_large: str) -> None:
        self._limit, self._total, self._tell, self._too_large = limit, total, tell, too_large
        self._done, self._lock = 0, threading.Lock()
        self.stopped = threading.Event()

    def add(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            if self._done > self._limit:
                raise DataError(self._too_large)
            if self._tell is not None:
                self._tell(self._done, self._total)
        if self.stopped.is_set():
            raise DataError("the other files could not be fetched")


def _fetch_one(system: Any, file: RemoteFile, place: Path, counter: _Counter) -> None:
    from fsspec.callbacks import Callback

    if counter.stopped.is_set():
        return
    callback, seen = Callback(), 0

    def count(size: int | None, value: int, **_: object) -> None:
        nonlocal seen
        counter.add(value - seen)
        seen = value

    callback.hooks["count"] = count
    place.parent.mkdir(parents=True, exist_ok=True)
    system.get_file(file.name, str(place), callback=callback)
    size = place.stat().st_size
    if file.size is not None and size != file.size:
        raise DataError(
            f"{shown(place)} is {amount(file.size)} large and came as {amount(size)}: run it again"
        )


def _check_unchanged(before: Sequence[RemoteFile], after: Sequence[RemoteFile], url: str) -> None:
    """Raise DataError where files are no more what they were: the copy may be of neither state."""
    states = [{file.place: file.state for file in files} for files in (before, after)]
    changed = sorted(
        place
        for place in states[0].keys() | states[1].keys()
        if states[0].get(place) != states[1].get(place)
    )
    if changed:
        raise DataError(
            f"{url} changed while it was fetched ({some(changed)}): run it again once nobody "
            "writes to it"
        )


def _too_large(url: str, size: int, limit: int, folder: Path) -> str:
    holds = f"is {amount(size)} large, more" if size else "is larger"
    return (
        f"{url} {holds} than the {amount(limit)} that are fetched to {folder.parent}: name fewer "
        "files, or another folder by the environment's TMPDIR"
    )


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Make one line of whatever a store's package raises: each has errors of its own."""
    try:
        yield
    except CloakifyError:
        raise
    except Exception as error:
        # Web servers' refusals are behind a file that is said not to be there.
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, PermissionError):
            cause = cause.__cause__
        said = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
        reason = shown(re.sub(r"\?[^\s'\")]+", "?…", said)) or "no reason is given"
        what = "is not there" if isinstance(cause, FileNotFoundError) else "can't be fetched"
        raise DataError(
            f"{url} {what} ({type(cause).__name__}: {reason}): check the URL, the network and the "
            "credentials"
        ) from error
