"""A file appears whole or not at all, and only its own failures are called so."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloakify.errors import CloakifyError
from cloakify.onnxfile import atomic_write


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    return path


def assert_untouched(path: Path) -> None:
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_file_is_replaced_and_has_ordinary_rights(old):
    with atomic_write(old) as file:
        file.write(b"new")
        assert old.read_bytes() == b"old"
    plain = old.with_name("plain")
    plain.touch()
    assert old.read_bytes() == b"new"
    assert old.stat().st_mode == plain.stat().st_mode


def test_an_error_in_the_block_passes_unchanged_and_leaves_the_old_file(old):
    with pytest.raises(KeyError), atomic_write(old) as file:
        file.write(b"half")
        raise KeyError
    assert_untouched(old)


def test_ctrl_c_leaves_the_old_file(old):
    with pytest.raises(KeyboardInterrupt), atomic_write(old) as file:
        file.write(b"half" * 10_000)
        raise KeyboardInterrupt
    assert_untouched(old)


def test_an_unreadable_source_is_not_called_a_write_error(old):
    with pytest.raises(FileNotFoundError, match="other"), atomic_write(old) as file:
        file.write(b"half")
        open(old.with_name("other"), "rb")  # noqa: SIM115
    assert_untouched(old)


@pytest.mark.parametrize("size", [3, 1 << 20], ids=["while flushing", "while writing"])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(old, size):
    # /dev/full takes no byte: the descriptor is swap_fit_select beneath the open file.
    with pytest.raises(CloakifyError, match=r"model\.onnx: cannot be written \(No space left"):  # noqa: SIM117
        with atomic_write(old) as file:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, file.fileno())
            os.close(full)
            file.write(b"x" * size)
    assert_untouched(old)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_late_failure_leaves_the_old_file(old, monkeypatch, call):
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(CloakifyError, match="No space left"), atomic_write(old) as file:
        file.write(b"new")
    monkeypatch.undo()
    assert_untouched(old)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CloakifyError, match=r"no/such/file: .*No such file"):  # noqa: SIM117
        with atomic_write(tmp_path / "no" / "such" / "file"):
            pytest.fail("nothing can be written there")


def test_a_killed_process_leaves_the_old_file(old):
    program = (
        "import os, signal, sys\n"
        "from cloakify.onnxfile.atomic import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half' * 100_000)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", program, str(old)], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert old.read_bytes() == b"old"
