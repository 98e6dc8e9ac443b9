"""Choose a device that ONNX Runtime can really use; one asked for and not had is an error.

ONNX Runtime itself only warns and runs on the CPU, which would make a timing or a claim about a
GPU false without a word.
"""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import onnx.parser
import onnxruntime as ort

from cloakify.errors import DeviceError, ModelError, UsageError
from cloakify.runtime.devices import CUDA_PROVIDER, Device
from cloakify.runtime.driver import find_driver
from cloakify.runtime.session import Session

# The package of onnxruntime that has a provider, and what brings the libraries that it loads.
_FORWARD_PACKAGES = {
    "openvino": ("onnxruntime-openvino", "pip install onnxruntime-openvino"),
    "tensorrt": ("onnxruntime-gpu", "pip install tensorrt"),
}


def resolve_device(
    wanted: str = "auto", threads: int | None = None, *, tf32: bool = False
) -> Device:
    """Return the device that a user names.

    Parameters
    ----------
    wanted
        ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: CUDA where it works, else the CPU. ``openvino``
        and ``tensorrt``, ``tensorrt:N`` run the shipped graph by another provider than gradients,
        for which these are the CPU and CUDA.
    threads
        How many cores of the host to use; all that the process may use when left out.
    tf32
        See :class:`~cloakify.runtime.devices.Device`.

    Raises
    ------
    UsageError
        No such name.
    DeviceError
        What was asked for can't be had; the message says what is missing.
    """
    match = re.fullmatch(r"(auto|cpu|openvino)|(cuda|tensorrt)(?::([0-9]{1,4}))?", wanted)
    if match is None:
        raise UsageError(
            f"--device takes auto, cpu, cuda or cuda:N, openvino or tensorrt, not {wanted!r}"
        )
    host = Device("cpu", threads=threads or 0)
    if wanted == "cpu":
        return host
    if wanted == "openvino":
        device = replace(host, forward="openvino")
        obstacle = forward_obstacle(device)
    else:
        device = Device("cuda", int(match.group(3) or 0), host.threads, tf32=tf32)
        obstacle = cuda_obstacle(device.index)
        if obstacle is None and match.group(2) == "tensorrt":
            device = replace(device, forward="tensorrt")
            obstacle = forward_obstacle(device)
    if obstacle is None:
        return device
    if wanted == "auto":
        return host
    way = "run on the CPU alone" if wanted == "openvino" else "run without a GPU"
    raise DeviceError(f"--device {wanted}: {obstacle}; use --device cpu to {way}")


def forward_obstacle(device: Device) -> str | None:
    """Return what keeps the shipped graph from its provider, or ``None`` when nothing does."""
    package, brought = _FORWARD_PACKAGES[device.forward]
    if device.forward_provider not in ort.get_available_providers():
        return f"this onnxruntime has no {device.forward_provider} (install {package} in its place)"
    return _probe(device, f"its libraries can't be loaded ({brought} brings them)")


def cuda_obstacle(index: int = 0) -> str | None:
    """Return what keeps ONNX Runtime from using GPU ``index``, or ``None`` when nothing does."""
    if CUDA_PROVIDER not in ort.get_available_providers():
        return "this onnxruntime has no CUDA (install onnxruntime-gpu in its place)"
    try:
        driver = find_driver()
    except DeviceError as error:
        return str(error)
    count = len(driver.gpus)
    if index >= count:
        return f"there {'is' if count == 1 else 'are'} only {count} NVIDIA GPU{'s' * (count != 1)}"
    built = built_for_cuda()
    if built is not None and driver.cuda[0] < int(built.partition(".")[0]):
        served = ".".join(map(str, driver.cuda))
        return f"the driver serves CUDA {served}, onnxruntime needs {built} (update the driver)"
    _load_wheels()
    missing = "its CUDA libraries can't be loaded (pip install 'cloakify[cuda]' brings them)"
    return _probe(Device("cuda", index), missing)


def built_for_cuda() -> str | None:
    """Return the CUDA version that this onnxruntime was built for, or ``None`` without CUDA."""
    return getattr(ort, "cuda_version", None) or None


def _load_wheels() -> None:
    """Load CUDA's libraries from NVIDIA's wheels, which are not on the loader's path."""
    # It prints what it fails to find; whether anything is missing, the probe tells.
    with redirect_stdout(io.StringIO()):
        ort.preload_dlls()


def _probe(device: Device, missing: str) -> str | None:
    """Return why a session can't be opened on ``device``, or ``None`` when it can."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> f (float[1] x) => (float[1] y) { y = Neg(x) }'
    )
    ort.set_default_logger_severity(4)
    try:
        session = Session(model, device, forward=True)
        session.run({"x": np.zeros(1, np.float32)})
    except (DeviceError, ModelError) as error:
        return f"{missing}: {error}"
    finally:
        # Errors alone: ONNX Runtime warns of each device that no plugin has registered.
        ort.set_default_logger_severity(3)
    return None
