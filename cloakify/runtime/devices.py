"""What a device is to ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloakify.runtime.cores import available_cores

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Device:
    """Where sessions run.

    Attributes
    ----------
    kind
        ``cpu`` or ``cuda``.
    index
        Which one of its kind.
    threads
        How many cores of the host to use; 0 for all that the process may use.
    shares
        Among how many work is dealt, which may decide the last bits of what comes out; 0 for as
        many as there are cores. They can be more: then each core does several.
    """

    kind: str
    index: int = 0
    threads: int = field(default=0, compare=False)
    shares: int = field(default=0, compare=False)

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of the execution provider."""
        return CUDA_PROVIDER if self.kind == "cuda" else CPU_PROVIDER

    @property
    def cores(self) -> int:
        """How many cores of the host to use."""
        return self.threads or available_cores()

    @property
    def host(self) -> Device:
        """The CPU, with as many cores."""
        return Device("cpu", threads=self.threads)

    @property
    def providers(self) -> list[tuple[str, dict[str, str]]]:
        """Providers with options, in the order to give a session."""
        cpu: list[tuple[str, dict[str, str]]] = [(CPU_PROVIDER, {})]
        if self.kind == "cpu":
            return cpu
        return [(CUDA_PROVIDER, {"device_id": str(self.index)}), *cpu]

    @property
    def exact_providers(self) -> list[tuple[str, dict[str, str]]]:
        """The same for sessions that are compared: no TF32, and the same kernels in each."""
        exact = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
        return [
            (name, {**options, **exact} if name == CUDA_PROVIDER else options)
            for name, options in self.providers
        ]

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


CPU = Device("cpu")
"""The CPU, with all cores that the process may use."""
