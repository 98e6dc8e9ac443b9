"""Run models: devices that are checked, sessions, and the bridge to torch.

The bridge is imported from its own module, ``cloakify.runtime.torch_module``, since it needs torch.
"""

from cloakify.runtime.batch_size import DEFAULT_BATCH_SIZE, fitting_batch_size
from cloakify.runtime.batching import BatchSize
from cloakify.runtime.device_report import DeviceEntry, DeviceReport, device_report
from cloakify.runtime.devices import CPU, Device
from cloakify.runtime.resolve import cuda_obstacle, resolve_device
from cloakify.runtime.session import Session
from cloakify.runtime.workers import Workers

__all__ = [
    "CPU",
    "DEFAULT_BATCH_SIZE",
    "BatchSize",
    "Device",
    "DeviceEntry",
    "DeviceReport",
    "Session",
    "Workers",
    "cuda_obstacle",
    "device_report",
    "fitting_batch_size",
    "resolve_device",
]
