"""Write a report to a file; the suffix says in which form."""

from __future__ import annotations

import os
from pathlib import Path

from cloakify.errors import UsageError
from cloakify.onnxfile import atomic_write
from cloakify.report.comparison import EvaluateReport
from cloakify.report.html import render_html
from cloakify.report.json_report import render_json
from cloakify.report.markdown import render_markdown
from cloakify.report.records import HardenReport

_RENDERERS = {".json": render_json, ".html": render_html, ".md": render_markdown}


def check_report_path(path: str | os.PathLike[str]) -> None:
    """Refuse a report file that could not be written in the end; call it before the long work.

    Raises
    ------
    UsageError
        If the suffix is not ``.json``, ``.html`` or ``.md``, or the folder does not exist.
    """
    if not Path(path).parent.is_dir():
        raise UsageError(f"report {os.fspath(path)}: there is no folder {str(Path(path).parent)!r}")
    suffix = Path(path).suffix
    if suffix.lower() not in _RENDERERS:
        seen = f"suffix {suffix!r}" if suffix else "no suffix"
        raise UsageError(f"report {os.fspath(path)}: {seen}; end it in .json, .html or .md")


def write_report(report: HardenReport | EvaluateReport, path: str | os.PathLike[str]) -> None:
    """Write a report as JSON, HTML or Markdown, whole or not at all.

    Parameters
    ----------
    report
        What to write.
    path
        The file; an existing one is replaced.

    Raises
    ------
    UsageError
        If the suffix is not ``.json``, ``.html`` or ``.md``.
    CloakifyError
        If the file cannot be written.
    """
    check_report_path(path)
    text = _RENDERERS[Path(path).suffix.lower()](report)
    # A path that is no valid UTF-8 reaches us as lone surrogates, which UTF-8 cannot hold.
    content = text.encode("utf-8", errors="backslashreplace")
    with atomic_write(path) as file:
        file.write(content)
