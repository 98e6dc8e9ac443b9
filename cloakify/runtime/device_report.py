"""What ONNX Runtime can use on this machine, what it can't, and what would help."""

from __future__ import annotations

from dataclasses import dataclass

import onnxruntime as ort

from cloakify.errors import DeviceError
from cloakify.runtime.cores import available_cores
from cloakify.runtime.devices import Device
from cloakify.runtime.driver import Driver, find_driver
from cloakify.runtime.resolve import built_for_cuda, cuda_obstacle


@dataclass(frozen=True)
class DeviceEntry:
    """One device of this machine.

    Attributes
    ----------
    device
        As ``--device`` takes it.
    name
        What it is: a GPU's name, or the number of cores.
    memory
        Bytes, for a GPU.
    obstacle
        What keeps it from being used and how to get rid of that; ``None`` when it can be used.
    """

    device: Device
    name: str
    memory: int | None
    obstacle: str | None


@dataclass(frozen=True)
class DeviceReport:
    """What is installed and what can be used.

    Attributes
    ----------
    onnxruntime
        Its version.
    package
        The package it came in: ``onnxruntime``, ``onnxruntime-gpu``, …
    providers
        Execution providers it was built with, by ONNX Runtime's preference.
    built_for_cuda
        CUDA version it was built for, or ``None``.
    driver_cuda
        Newest CUDA version that the NVIDIA driver serves, or ``None`` without a working driver.
    entries
        The CPU and every GPU.
    missing
        Why no GPU can be used and what to do about it; ``None`` when one can.
    """

    onnxruntime: str
    package: str
    providers: tuple[str, ...]
    built_for_cuda: str | None
    driver_cuda: str | None
    entries: tuple[DeviceEntry, ...]
    missing: str | None

    @property
    def default(self) -> Device:
        """What ``--device auto`` takes."""
        first = next((e for e in self.entries if e.device == Device("cuda")), None)
        return first.device if first and first.obstacle is None else Device("cpu")


def device_report() -> DeviceReport:
    """Look at this machine; takes a second or two where there is a GPU to try."""
    driver: Driver | None = None
    reason: str | None = None
    try:
        driver = find_driver()
    except DeviceError as error:
        reason = str(error)
    gpus = () if driver is None else driver.gpus
    gpu_entries = [
        DeviceEntry(Device("cuda", gpu.index), gpu.name, gpu.memory, cuda_obstacle(gpu.index))
        for gpu in gpus
    ]
    missing: str | None = None
    if not gpu_entries:
        missing = reason or "the NVIDIA driver sees no GPU"
    elif all(entry.obstacle is not None for entry in gpu_entries):
        missing = gpu_entries[0].obstacle
    cores = available_cores()
    cpu = DeviceEntry(Device("cpu"), f"{cores} core{'s' * (cores != 1)}", None, None)
    return DeviceReport(
        onnxruntime=ort.__version__,
        package=getattr(ort, "package_name", None) or "onnxruntime",
        providers=tuple(ort.get_available_providers()),
        built_for_cuda=built_for_cuda(),
        driver_cuda=None if driver is None else ".".join(map(str, driver.cuda)),
        entries=(cpu, *gpu_entries),
        missing=missing,
    )
