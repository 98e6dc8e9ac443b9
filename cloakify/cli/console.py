"""What a person sees: progress bars on standard error, and remarks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Progress = Callable[[str, int, int], None]


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress]:
    """Yield a callback ``(stage, done, total)`` that draws one bar a stage.

    Nothing is drawn where standard error is no terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, object] = {}

        def report(stage: str, done: int, total: int) -> None:
            # What stands behind the dot changes from call to call; the bar stays the same.
            name = stage.partition(" · ")[0]
            if name not in tasks:
                tasks[name] = bars.add_task(stage, total=total)
            bars.update(tasks[name], description=stage, completed=done, total=total)  # type: ignore[arg-type]

        yield report


def remark(text: str, quiet: bool = False) -> None:
    """Print a line to standard error."""
    if not quiet:
        click.echo(text, err=True)
