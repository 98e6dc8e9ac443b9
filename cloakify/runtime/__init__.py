"""Run models: devices that are checked, sessions, and the bridge to torch."""

from cloakify.runtime.devices import Device
from cloakify.runtime.resolve import cuda_obstacle, resolve_device
from cloakify.runtime.session import Session

__all__ = ["Device", "Session", "cuda_obstacle", "resolve_device"]
