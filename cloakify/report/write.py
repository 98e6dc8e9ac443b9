"""Write a report to a file; the suffix says in which form."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cloakify.errors import UsageError
from cloakify.onnxfile import atomic_write
from cloakify.report.comparison import EvaluateReport
from cloakify.report.cyclonedx import render_cyclonedx
from cloakify.report.html import render_html
from cloakify.report.json_report import render_json
from cloakify.report.markdown import render_markdown
from cloakify.report.records import HardenReport

# A suffix that ends another one comes after it.
_RENDERERS = {
    ".cdx.json": render_cyclonedx,
    ".json": render_json,
    ".html": render_html,
    ".md": render_markdown,
}


def check_report_path(path: str | os.PathLike[str]) -> None:
    """Refuse a report file that could not be written in the end; call it before the long work.

    Raises
    ------
    UsageError
        If the suffix is none of those of :func:`write_report`, or the folder does not exist.
    """
    if not Path(path).parent.is_dir():
        raise UsageError(f"report {os.fspath(path)}: there is no folder {str(Path(path).parent)!r}")
    _renderer(path)


def write_report(report: HardenReport | EvaluateReport, path: str | os.PathLike[str]) -> None:
    """Write a report, whole or not at all.

    ``.json`` is everything, ``.html`` and ``.md`` are for people, ``.cdx.json`` is a CycloneDX
    ML-BOM.

    Parameters
    ----------
    report
        What to write.
    path
        The file; an existing one is replaced.

    Raises
    ------
    UsageError
        If the file's name ends in none of these.
    CloakifyError
        If the file cannot be written.
    """
    check_report_path(path)
    text = _renderer(path)(report)
    # A path that is no valid UTF-8 reaches us as lone surrogates, which UTF-8 cannot hold.
    content = text.encode("utf-8", errors="backslashreplace")
    with atomic_write(path) as file:
        file.write(content)


def _renderer(path: str | os.PathLike[str]) -> Callable[[HardenReport | EvaluateReport], str]:
    name = Path(path).name.lower()
    for suffix, render in _RENDERERS.items():
        if name.endswith(suffix):
            return render
    suffix = Path(path).suffix
    seen = f"suffix {suffix!r}" if suffix else "no suffix"
    *others, last = _RENDERERS
    raise UsageError(f"report {os.fspath(path)}: {seen}; end it in {', '.join(others)} or {last}")
