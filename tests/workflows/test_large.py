"""Models of gigabytes are hardened and proven in little more memory than their own size."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.large_models import write_beside, write_within

ROOT = Path(__file__).parents[2]
# Bytes beside the model's own.
BESIDE = 2 << 30

RUN = """
import sys
from pathlib import Path
from cloakify.cli.main import run
code = run(sys.argv[1:])
print(Path("/proc/self/status").read_text())
sys.exit(code)
"""


def peak_of(folder: Path, *command: str) -> int:
    """Run a command in a process of its own; return the most memory that it held, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert "[W:" not in done.stderr
    found = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert found is not None
    return 1024 * int(found.group(1))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory off /proc")
@pytest.mark.parametrize(
    ("write", "widths"),
    [
        (write_beside, [23_500, 23_500]),
        (write_beside, [16_600, 16_600, 16_600]),
        (write_within, [17_300, 17_300]),
    ],
)
def test_what_a_large_model_takes(
    tmp_path: Path, write: Callable[[Path, list[int]], None], widths: list[int]
) -> None:
    """One tensor of 2.2 GB, or two of 1.1 GB, of which the disk holds a fiftieth; 1.2 GB within."""
    write(tmp_path / "m.onnx", widths)
    most = sum(file.stat().st_size for file in tmp_path.iterdir()) + BESIDE
    x = np.random.default_rng(0).random((24, 32), np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    options = "--data d.npz --labels model --eps 0.03 --effort quick --score deepcloak "
    options += "--mask-ratio 0.1 --evaluation-steps 2 -o h.onnx"
    hardening = ["harden", "m.onnx", *options.split()]
    assert peak_of(tmp_path, *hardening) < most
    assert peak_of(tmp_path, "verify", "h.onnx", "--against", "m.onnx") < most
