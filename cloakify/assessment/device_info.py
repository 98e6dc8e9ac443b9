"""What a report says of the device."""

from __future__ import annotations

from msgspec import UNSET

from cloakify.report.records import DeviceInfo
from cloakify.runtime import Device


def device_info(device: Device) -> DeviceInfo:
    """Return a device as a report has it."""
    return DeviceInfo(
        provider=device.forward_provider,
        gradients=device.provider if device.forward else UNSET,
        tf32=device.tf32 if device.kind == "cuda" else UNSET,
    )
