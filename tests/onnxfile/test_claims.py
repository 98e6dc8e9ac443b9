"""A claim on an output holds as long as its run lives, by whatever way the folder is reached."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloakify.errors import UsageError
from cloakify.onnxfile import check_places, claimed

ROOT = Path(__file__).parents[2]
HOLDS = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from cloakify.onnxfile import claimed\n"
    "with claimed([Path(sys.argv[1])]):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


def holder(path: Path) -> subprocess.Popen[bytes]:
    """Start a process that claims a file until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def test_no_two_processes_and_no_two_runs_of_one(tmp_path: Path) -> None:
    link = tmp_path / "link"
    real = tmp_path / "real"
    real.mkdir()
    link.symlink_to(real)
    with claimed([real / "h.onnx", real / "r.json"]):
        for place in (real / "h.onnx", link / "h.onnx", link / "r.json"):
            with (
                pytest.raises(UsageError, match="another run of cloakify is about to write it"),
                claimed([real / "other.onnx", place]),
            ):
                pass
        # What was claimed before the refusal is free again, and other files are.
        with claimed([real / "other.onnx", tmp_path / "h.onnx"]):
            pass
    assert list(real.iterdir()) == []
    with holder(real / "h.onnx") as process:
        with pytest.raises(UsageError), claimed([link / "h.onnx"]):
            pass
        process.communicate()
    with claimed([link / "h.onnx"]):
        pass
    assert list(real.iterdir()) == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_holds_nothing(tmp_path: Path, end: signal.Signals) -> None:
    with holder(tmp_path / "h.onnx") as process:
        # A live run's is no leftover.
        check_places([tmp_path / "other.onnx"], [])
        assert len(list(tmp_path.iterdir())) == 1
        os.kill(process.pid, end)
        process.wait()
    with claimed([tmp_path / "h.onnx"]):
        pass
    assert list(tmp_path.iterdir()) == []
    with holder(tmp_path / "h.onnx") as process:
        os.kill(process.pid, end)
        process.wait()
    check_places([tmp_path / "other.onnx"], [])
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_kept_from_work_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with claimed([tmp_path / "h.onnx"]), claimed([tmp_path / "h.onnx"]):
        pass
    assert list(tmp_path.iterdir()) == []
