"""A stand-in for NVIDIA's driver, so that GPUs can be had and missed on any machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from cloakify.runtime import driver


class FakeLibrary:
    """The calls of libcuda.so.1 that are used, answered from what it was made with."""

    def __init__(self, names: tuple[str, ...], version: int, error: int) -> None:
        self.names, self.version, self.error = names, version, error

    def cuInit(self, _flags: ctypes.c_uint) -> int:
        return self.error

    def cuDriverGetVersion(self, version: object) -> int:
        version._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, count: object) -> int:
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, device: object, index: ctypes.c_int) -> int:
        device._obj.value = index.value
        return 0

    def cuDeviceGetName(self, name, _length, device: ctypes.c_int) -> int:
        name.value = self.names[device.value].encode()
        return 0

    def cuDeviceTotalMem_v2(self, memory: object, _device: object) -> int:
        memory._obj.value = 80 << 30
        return 0

    def cuGetErrorString(self, _code: object, text: object) -> int:
        text._obj.value = b"no CUDA-capable device is detected"
        return 0


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`gpus("NVIDIA H100", version=13000)` makes the driver tell of that GPU."""

    def make(*names: str, version: int = 13020, error: int = 0) -> None:
        library = FakeLibrary(names, version, error)
        monkeypatch.setattr(driver, "load_library", lambda: library)

    return make


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of NVIDIA's is installed."""

    def missing(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
