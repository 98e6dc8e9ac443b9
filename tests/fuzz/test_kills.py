"""A few runs of each verb that are killed or interrupted; `kills.py` itself does hundreds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forks")
@pytest.mark.parametrize("name", ["harden, report", pytest.param("attack", marks=pytest.mark.slow)])
def test_nothing_is_lost_or_left(name: str) -> None:
    # In a process of its own, which has no threads yet.
    found = subprocess.run(
        [sys.executable, "tests/fuzz/kills.py", "--count", "4", "--only", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "; 0 faults" in found.stdout
