"""What dead processes have left is removed, and nothing of live ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloakify.temporary import own_folder, remove_folder


def test_folders_of_dead_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (f"cloakify-{ended.pid}-a", f"cloakify-{os.getpid()}-b", "cloakify-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    made = own_folder()
    kept = {made.name, f"cloakify-{os.getpid()}-b", "cloakify-mine"}
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_numbers_of_other_machines_mean_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program = f"""
import tempfile; tempfile.tempdir = {str(tmp_path)!r}
import os; os.getpid = lambda: {1 << 30}
from cloakify.temporary import own_folder
print(own_folder().name, flush=True)
input()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        its = tmp_path / other.stdout.readline().strip()
        assert its.name.startswith(f"cloakify-{1 << 30}-")
        own = own_folder()
        assert its.is_dir()
        other.kill()
    remove_folder(own)
    remove_folder(own_folder())
    assert not list(tmp_path.iterdir())
