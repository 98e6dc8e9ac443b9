"""What lies at a URL: files with their sizes, listed so that nothing is left out unseen."""

from __future__ import annotations

import glob
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from cloakify.data.naming import shown, some
from cloakify.data.patterns import written_out
from cloakify.errors import DataError
from cloakify.settings.urls import scheme_of, without_secrets

# Files in one source, and folders that are looked through for them.
MOST_FILES = 1 << 20

# What tells one state of a file from another, as file systems have it.
_STATE = re.compile(r"size|e_?tag|md5|sha256|.*modified|mtime|updated|generation|created|blob_?id")


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere.

    Attributes
    ----------
    name
        As its file system calls it.
    place
        Below what all of them lie in, parted by slashes.
    info
        What is known of it.
    """

    name: str
    place: str
    info: Mapping[str, Any]

    @property
    def size(self) -> int | None:
        """Bytes, where they are told."""
        size = self.info.get("size")
        return size if isinstance(size, int) else None

    @property
    def state(self) -> dict[str, str]:
        """What changes with the file's content, as far as that is told."""
        return {
            key: str(value)
            for key, value in self.info.items()
            if _STATE.fullmatch(key.lower().replace("-", "_"))
        }


@dataclass(frozen=True)
class Listing:
    """All files that a URL stands for.

    Attributes
    ----------
    prefix
        The URL of what they lie in.
    rest
        What names them there: a file, a folder, or a pattern; nothing for all that lies there.
    """

    prefix: str
    rest: str
    files: list[RemoteFile]


def list_web(system: Any, url: str) -> Listing:
    """List what a web address names: a file, or several by braces. There are no folders.

    Raises
    ------
    DataError
        One is not there, or it names a folder.
    """
    parts = urlsplit(url, allow_fragments=False)
    head, _, last = parts.path.rpartition("/")
    if not last:
        raise DataError(
            f"{without_secrets(url)} names a folder, which no web server is bound to list: name "
            "the file, or several by braces ({0..3}.npz)"
        )
    while "{" in head:
        head, _, more = head.rpartition("/")
        last = f"{more}/{last}"
    prefix = f"{parts.scheme}://{parts.netloc}{head}"
    query = f"?{parts.query}" if parts.query else ""
    files = []
    for place in written_out(last):
        name = f"{prefix}/{place}{query}"
        files.append(RemoteFile(name, unquote(place), system.info(name)))
    return Listing(prefix, unquote(last), files)


def list_store(system: Any, url: str) -> Listing:
    """List what a URL of a store names: a file, a folder with all below it, or a pattern.

    Raises
    ------
    DataError
        It stands for nothing.
    """
    from fsspec.utils import glob_translate

    scheme = scheme_of(url)
    name = str(system._strip_protocol(url)).rstrip("/")
    is_pattern = glob.has_magic(name) or len(written_out(name)) > 1
    if not is_pattern or system.exists(name):
        info = system.info(name)
        above = posixpath.dirname(name)
        if info["type"] != "directory":
            last = posixpath.basename(name)
            return Listing(_url(scheme, above), last, [RemoteFile(name, last, info)])
        files = list(_below(system, name))
        if not files:
            raise DataError(f"{shown(url)} holds no files: check the URL")
        return Listing(_url(scheme, name), "", files)
    root = name
    while glob.has_magic(root) or "{" in root:
        root = posixpath.dirname(root)
    rest = name[len(root) :].lstrip("/")
    by_place, missing = dict[str, RemoteFile](), []
    listed: list[RemoteFile] | None = None
    places = written_out(rest)
    for place in places:
        if glob.has_magic(place):
            listed = list(_below(system, root)) if listed is None else listed
            wanted = re.compile(glob_translate(place))
            by_place |= {each.place: each for each in listed if wanted.fullmatch(each.place)}
        elif system.isfile(one := posixpath.join(root, place)):
            by_place[place] = RemoteFile(one, place, system.info(one))
        else:
            missing.append(place)
    if missing:
        raise DataError(
            f"{shown(url)}: {len(missing)} of {len(places)} files that it names can't be found "
            f"({some(missing)}): check the numbers"
        )
    if not by_place:
        raise DataError(f"{shown(url)} matches no file: check the pattern, and keep it in quotes")
    return Listing(_url(scheme, root), rest, list(by_place.values()))


def _url(scheme: str, name: str) -> str:
    return f"{scheme}://{name.lstrip('/')}".rstrip("/") if name.strip("/") else f"{scheme}:/"


def _below(system: Any, root: str) -> Iterator[RemoteFile]:
    """Yield all files below a folder.

    The file systems' own ``walk``, ``find`` and ``glob`` leave out folders that they fail to list.
    """
    folders, looked = [("", root)], 0
    while folders:
        within, folder = folders.pop()
        for info in sorted(system.ls(folder, detail=True), key=lambda each: str(each["name"])):
            name = str(info["name"]).rstrip("/")
            looked += 1
            if looked > MOST_FILES:
                raise DataError(f"more than {MOST_FILES} files lie there: name fewer")
            # Some stores list a folder in itself.
            if name.strip("/") == folder.strip("/"):
                continue
            place = posixpath.join(within, posixpath.basename(name))
            if info["type"] == "directory":
                folders.append((place, name))
            else:
                yield RemoteFile(name, place, info)
