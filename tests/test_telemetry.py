"""Nothing leaves the machine: no socket is opened, and nothing is written below the home folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support.classifiers import mlp_classifier

ROOT = Path(__file__).parent.parent
SEALED = ROOT / "tests" / "support" / "sealed.py"
NO_SEAL = 77

# Every verb, in one process.
VERBS = """
import sys
from cloakify.cli.main import run

model, data, out = sys.argv[1:]
QUICK = ["--data", data, "--labels", "model", "--device", "cpu", "--eps", "2/255", "--quiet"]
MASK = ["--mask-ratio", "0.1", "--score", "deepcloak", "--evaluation-steps", "2"]
hardened = out + "/h.onnx"
for arguments in (
    ["devices"],
    ["inspect", model],
    ["harden", model, "-o", hardened, *QUICK, *MASK, "--report", out + "/r.html"],
    ["verify", hardened, "--against", model],
    ["attack", model, *QUICK, "--steps", "2", "-o", out + "/a.npz"],
    ["evaluate", model, hardened, *QUICK, "--attack", "fgsm,square", "--queries", "2"],
):
    assert run(arguments) in (0, 1), arguments
"""
FORWARD = """
import numpy as np
import onnx.parser
from cloakify.runtime import Device, Session

model = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["": 13]> f (float[1] x) => (float[1] y) { y = Neg(x) }'
)
assert Session(model, Device("cpu")).run({"x": np.ones(1, np.float32)})["y"] == -1
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def run_child(
    code: str, folder: Path, *arguments: str, sealed: bool = False, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose only settings are these: where CI is set, nothing is sent."""
    (folder / "child.py").write_text(code)
    module = [str(SEALED), "child"] if sealed else ["-m", "child"]
    found = subprocess.run(
        [sys.executable, *module, *arguments],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "PYTHONPATH": f"{folder}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if sealed and found.returncode == NO_SEAL:
        pytest.skip(f"sockets can't be forbidden here: {found.stderr.strip()}")
    return found


def test_the_seal_holds(home: Path) -> None:
    """Else the tests below would prove nothing."""
    found = run_child("import socket; socket.socket(); print('opened')", home.parent, sealed=True)
    assert found.returncode != 0 and "opened" not in found.stdout


def test_no_verb_opens_a_socket_or_writes_to_the_home_folder(home: Path) -> None:
    model, data = home.parent / "m.onnx", home.parent / "x.npz"
    onnx.save(mlp_classifier(0, 8, 3), model)
    np.savez(data, x=np.random.default_rng(0).random((40, 8), np.float32))
    arguments = (str(model), str(data), str(home.parent))
    found = run_child(VERBS, home.parent, *arguments, sealed=True)
    assert found.returncode == 0, found.stderr
    assert not list(home.iterdir())


def test_any_part_of_the_package_switches_it_off(home: Path) -> None:
    found = run_child(FORWARD, home.parent, sealed=True)
    assert found.returncode == 0, found.stderr
    assert not list(home.iterdir()) and not found.stderr


def test_a_runtime_that_was_there_first_is_told_and_so_is_the_user(home: Path) -> None:
    first = f"import onnxruntime; onnxruntime.__version__ = '1.31.1'\n{FORWARD}"
    found = run_child(first, home.parent)
    assert found.returncode == 0
    assert "child.py:5: UserWarning: onnxruntime was imported before cloakify" in found.stderr
    off = run_child(first, home.parent, ORT_DISABLE_TELEMETRY="true")
    assert off.returncode == 0 and not off.stderr


def test_versions_that_send_nothing_are_not_complained_of(home: Path) -> None:
    older = "import onnxruntime; onnxruntime.__version__ = '1.28.0'; import cloakify"
    found = run_child(older, home.parent)
    assert found.returncode == 0 and not found.stderr


def test_what_the_user_has_set_stays(home: Path) -> None:
    code = "import os, cloakify; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_child(code, home.parent, ORT_DISABLE_TELEMETRY="0").stdout == "0\n"
    assert run_child(code, home.parent, ORT_DISABLE_TELEMETRY="").stdout == "1\n"
