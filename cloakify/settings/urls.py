"""Names of samples that lie elsewhere: ``s3://bucket/x.npz``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from cloakify.errors import UsageError

if sys.platform == "win32":
    from pathlib import WindowsPath as _Path
else:
    from pathlib import PosixPath as _Path

WEB = ("http", "https")

# One letter is a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Url(_Path):
    """What stands where a path may stand: as a path alone it would lose a slash.

    Attributes
    ----------
    text
        All of it; nothing where the path was made of another one, which is none.
    """

    text = ""

    @classmethod
    def of(cls, text: str) -> Url:
        """Return what a URL is kept as."""
        made = cls(text)
        made.text = text
        return made


def url_of(name: object) -> str | None:
    """Return the URL that is given for samples; ``None`` for anything else."""
    if isinstance(name, Url):
        return name.text or None
    return name if isinstance(name, str) and _URL.match(name) else None


def without_secrets(url: str) -> str:
    """Return a URL as messages, reports and commands have it: what is signed stays out of them.

    Elsewhere than on the web a question mark stands for any letter.
    """
    if scheme_of(url) not in WEB:
        return url
    return re.sub(r"\?.*", "?…", url, flags=re.DOTALL)


def scheme_of(url: str) -> str:
    """Return what a URL begins with."""
    return url.partition("://")[0].lower()


def own_file(url: str) -> Path | None:
    """Return the path that a ``file`` URL (RFC 8089) stands for; ``None`` for another URL.

    Raises
    ------
    UsageError
        It is another machine's.
    """
    if scheme_of(url) != "file":
        return None
    parts = urlsplit(url, allow_fragments=False)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{without_secrets(url)} names the machine {parts.netloc!r}: a file here is "
            "file:///FOLDER/FILE"
        )
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return Path(url2pathname(path) if sys.platform == "win32" else unquote(path))
