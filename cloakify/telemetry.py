"""Nothing leaves the machine: the telemetry of what cloakify runs is off before it is imported.

ONNX Runtime's builds send events from 1.29 on (its Privacy.md): importing it writes an identifier
and a store of events below the home folder, and long runs look their collector up and send paths,
fields of the graph and texts of errors there. It looks at its environment once, when it is loaded.
"""

from __future__ import annotations

import os
import sys
import warnings

SWITCH = "ORT_DISABLE_TELEMETRY"

# The first version of ONNX Runtime that sends anything from Linux or macOS.
SENDS_FROM = (1, 29)


def switch_off_telemetry() -> None:
    """Switch telemetry off, unless the user has set the switch.

    A runtime that was imported before cloakify has read its environment already. It is told to
    leave out what can still be left out, and a warning says what that is not.
    """
    if os.environ.get(SWITCH):
        return
    os.environ[SWITCH] = "1"
    runtime = sys.modules.get("onnxruntime")
    if runtime is None or _version(runtime.__version__) < SENDS_FROM:
        return
    runtime.disable_telemetry_events()
    warnings.warn(
        "onnxruntime was imported before cloakify, with its telemetry on: it may have written "
        "an identifier below the home folder, and may send some events all the same; import "
        f"cloakify first, or set {SWITCH}=1",
        stacklevel=3,
    )


def _version(text: str) -> tuple[int, ...]:
    """``1.31.1+cu12`` → (1, 31)."""
    return tuple(int(part) for part in text.split(".")[:2])
