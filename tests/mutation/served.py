"""Run tests again and again without starting anew: each run is a fork of this process.

What takes seconds to import, and no fault is planted in, is imported once. Nothing has computed
when a run forks: threads that had would be missing in it. `measure.py` starts this in a copy of the
tree and writes one request a line, JSON as `run` takes it, and reads one answer a line.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# onnxruntime is none of them: the package comes first, which switches its telemetry off.
SLOW_TO_IMPORT = ["torch", "sklearn.linear_model", "scipy.stats", "onnx.reference", "numpy"]
# A test may compute this many times as long as it took, and as many seconds more. Computing alone,
# as a busy machine makes all else longer.
TIMES, MORE = 5, 10
# What waits for nothing ends after so many seconds.
PATIENCE = 1800

hypothesis.settings.register_profile(
    "planted",
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    # That it fails is all that counts, not by which sample.
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


def main() -> None:
    for name in SLOW_TO_IMPORT:
        # Some belong to extras.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), file=answers, flush=True)


def run(
    arguments: list[str], first: list[str], left_out: list[str], seconds: dict[str, float]
) -> dict[str, Any]:
    """Run tests in a fork.

    Args:
        arguments: What pytest is called with.
        first: The tests to begin with, in order.
        left_out: Tests not to run.
        seconds: What each test took.

    Returns:
        Whether they passed (``passed``), which tests ran and for how long (``seconds``) and what
        pytest wrote (``output``).
    """
    told, output = Path("told.json").resolve(), Path("output.txt").resolve()
    told.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        os.setsid()
        if seconds:
            limit = TIMES * int(sum(seconds[test] for test in first)) + 6 * MORE
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        watch = Watch(first, left_out, seconds)
        code = pytest.main(arguments, plugins=[watch])
        told.write_text(json.dumps(watch.seconds))
        os._exit(int(code))
    timer = threading.Timer(PATIENCE, os.killpg, (child, signal.SIGKILL))
    timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    # What it has started and not ended.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return {
        "passed": os.waitstatus_to_exitcode(status)
        in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED),
        "seconds": json.loads(told.read_text()) if told.exists() else {},
        "output": output.read_text(errors="replace"),
    }


class Watch:
    """Puts tests in order, ends those that loop, and notes how long each takes."""

    def __init__(self, first: list[str], left_out: list[str], seconds: dict[str, float]) -> None:
        self.rank = {name: number for number, name in enumerate(first)}
        self.left_out = set(left_out)
        self.known = seconds
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.left_out]
        items.sort(key=lambda item: self.rank.get(item.nodeid, len(self.rank)))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        # The signal ends the run.
        if nodeid in self.known:
            signal.setitimer(signal.ITIMER_PROF, TIMES * self.known[nodeid] + MORE)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


if __name__ == "__main__":
    main()
