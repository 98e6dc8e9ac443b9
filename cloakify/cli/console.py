"""What a person sees: progress on standard error, and remarks."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cloakify.cli.process import begin_work
from cloakify.printable import printable

if TYPE_CHECKING:
    from cloakify.experiment.outlook import Outlook
    from cloakify.report import EvaluateReport, HardenReport

Progress = Callable[[str, int, int], None]

# Seconds between two lines of progress where no bar can be drawn: at first, and on long runs.
FIRST = 15.0
MOST = 120.0

# Classes that are listed by name.
SHOWN_CLASSES = 12

# The stage in which what an interrupted run has found is put in order.
INTERRUPTED = "interrupted"


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress]:
    """Yield a callback ``(stage, done, total)`` that draws one bar a stage.

    Where standard error is no terminal, it prints a plain line now and then instead. Between two
    calls it tells of single runs of the model. What takes long begins here, with everything
    imported.
    """
    begin_work()
    if quiet:
        yield lambda stage, done, total: None
        return
    from cloakify.experiment.steady import steady

    if not sys.stderr.isatty():
        with _Lines() as report_line, steady(report_line) as progress:
            yield progress
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, object] = {}

        def report(stage: str, done: int, total: int) -> None:
            # What stands behind the dot changes from call to call; the bar stays the same.
            name = stage.partition(" · ")[0]
            if name not in tasks:
                tasks[name] = bars.add_task(printable(stage), total=total)
            bars.update(tasks[name], description=printable(stage), completed=done, total=total)  # type: ignore[arg-type]

        with steady(report) as progress:
            yield progress


class _Lines:
    """Prints now and then how far a stage is, also while a single step of it takes long.

    A run of less than ``FIRST`` seconds prints nothing; the longer it takes, the sparser the lines.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._stage, self._done, self._total, self._since = "", 0, 1, self._begun
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self._report

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _report(self, stage: str, done: int, total: int) -> None:
        name = stage.partition(" · ")[0]
        if name != self._stage.partition(" · ")[0]:
            self._since = time.monotonic()
            if name == INTERRUPTED:
                # Whoever has pressed Ctrl-C waits for an answer.
                say(stage, err=True)
        self._stage, self._done, self._total = stage, done, total

    def _tell(self) -> None:
        pause = FIRST
        while not self._over.wait(pause):
            now = time.monotonic()
            pause = max(FIRST, min(MOST, (now - self._begun) / 4))
            say(self._line(now), err=True)

    def _line(self, now: float) -> str:
        line = self._stage or "starting"
        # Work that nobody has announced has no share of it done.
        if self._stage and self._total > 1:
            line += f": {100 * self._done // self._total} %"
        line += f" after {lasting(now - self._begun)}"
        if 0 < self._done < self._total:
            left = (now - self._since) * (self._total - self._done) / self._done
            line += f", about {lasting(left)} to go"
        return line


def outlook_teller(quiet: bool) -> Callable[[Outlook], None] | None:
    """Return what says on one line what a run is about to do and how long that will take."""
    if quiet:
        return None

    def tell(outlook: Outlook) -> None:
        pace = outlook.pace
        say(
            f"About {lasting(outlook.seconds)}: {outlook.task}; a forward pass takes "
            f"{1000 * pace.forward:.3g} ms, a step of an attack {1000 * pace.step:.3g} ms, and "
            f"{100 * pace.left[-1]:.0f} % withstand a short one",
            err=True,
        )

    return tell


def lasting(seconds: float) -> str:
    """Write a duration as a person would: ``40 s``, ``12 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say(line: str, err: bool = False) -> None:
    """Print one line; what names from strangers' files would do to a terminal is escaped."""
    click.echo(printable(line), err=err)


def say_json(document: str) -> None:
    """Print a JSON document of ASCII, in which JSON escapes every control character but DEL."""
    click.echo(document.replace("\x7f", "\\u007f").rstrip("\n"))


def say_report(report: HardenReport | EvaluateReport) -> None:
    """Print a report's tables, verdicts and warnings, as wide as the terminal is."""
    from cloakify.report import report_text

    seen = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if seen else None
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    click.echo(report_text(report, width, seen and not plain), nl=False)


def remark(text: str, quiet: bool = False) -> None:
    """Print a line to standard error."""
    if not quiet:
        say(text, err=True)


def remark_data(notes: Iterable[str], class_names: tuple[str, ...] | None, quiet: bool) -> None:
    """Say what is odd about the data, and which class folder is which class."""
    for note in notes:
        remark(f"Note: {note}", quiet)
    # Names such as 0, 1, 2 say nothing.
    if class_names is not None and class_names != tuple(map(str, range(len(class_names)))):
        listed = [f"{index} {name}" for index, name in enumerate(class_names[:SHOWN_CLASSES])]
        more = f", … ({len(class_names)} in all)" if len(class_names) > SHOWN_CLASSES else ""
        remark(f"Classes: {', '.join(listed)}{more}", quiet)
