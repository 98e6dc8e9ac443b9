"""Run models: devices that are checked, sessions, and the bridge to torch.

The bridge is imported from its own module, ``cloakify.runtime.bridge``, since it needs torch.
"""

from cloakify.runtime.devices import Device
from cloakify.runtime.report import DeviceEntry, DeviceReport, device_report
from cloakify.runtime.resolve import cuda_obstacle, resolve_device
from cloakify.runtime.session import Session

__all__ = [
    "Device",
    "DeviceEntry",
    "DeviceReport",
    "Session",
    "cuda_obstacle",
    "device_report",
    "resolve_device",
]
