"""Ask NVIDIA's driver, without any of CUDA's libraries, what GPUs there are.

The driver comes with its own library, so that this works where nothing else of CUDA is installed.
The calls are those of the CUDA Driver API reference, sections 6.2 to 6.5.
"""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass

from cloakify.errors import DeviceError

_NO_ERROR = 0


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU: its number, name, and memory in bytes."""

    index: int
    name: str
    memory: int


@dataclass(frozen=True)
class Driver:
    """The newest CUDA version, major and minor, that the driver can serve, and its GPUs."""

    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]


def find_driver() -> Driver:
    """Return what the driver tells.

    Raises
    ------
    DeviceError
        There is no driver, or it does not work.
    """
    library = load_library()
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    _call(library, "cuInit", ctypes.c_uint(0))
    _call(library, "cuDriverGetVersion", ctypes.byref(version))
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    gpus = tuple(_gpu(library, index) for index in range(count.value))
    return Driver((version.value // 1000, version.value % 1000 // 10), gpus)


def load_library() -> ctypes.CDLL:
    """Open the driver's library.

    Raises
    ------
    DeviceError
        It is not installed.
    """
    name = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise DeviceError("no NVIDIA driver was found") from error


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    device, memory = ctypes.c_int(0), ctypes.c_size_t(0)
    name = ctypes.create_string_buffer(256)
    _call(library, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
    _call(library, "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return Gpu(index, name.value.decode(errors="replace"), memory.value)


def _call(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(library, function)(*arguments)
    if code == _NO_ERROR:
        return
    text = ctypes.c_char_p()
    library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
    meaning = (text.value or b"unknown").decode(errors="replace")
    raise DeviceError(f"NVIDIA's driver reports error {code} ({meaning})")
