"""What a device is to ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cloakify.runtime.cores import available_cores

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"

# Providers of the forward pass alone, by the name that --device has for them.
FORWARD_PROVIDERS: Mapping[str, str] = {
    "openvino": "OpenVINOExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

Providers: TypeAlias = list[tuple[str, dict[str, str]]]


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
    tf32
        Whether a GPU may round the factors of its products to TensorFloat-32, 10 bits.
    forward
        A key of :data:`FORWARD_PROVIDERS` where the shipped graph is run by that provider, and
        gradients alone by the device's own; "" where all is its own.
    """

    kind: str
    index: int = 0
    threads: int = field(default=0, compare=False)
    shares: int = field(default=0, compare=False)
    tf32: bool = False
    forward: str = ""

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of the execution provider that gradients run on."""
        return CUDA_PROVIDER if self.kind == "cuda" else CPU_PROVIDER

    @property
    def forward_provider(self) -> str:
        """That of the one which the shipped graph runs on."""
        return FORWARD_PROVIDERS.get(self.forward, self.provider)

    @property
    def described(self) -> str:
        """The providers, and in what precision they compute where that is not said by the type."""
        text = self.forward_provider
        if self.forward:
            text += f", gradients {self.provider}"
        if self.kind == "cuda":
            text += ", TF32" if self.tf32 else ", no TF32"
        return text

    @property
    def cores(self) -> int:
        """How many cores of the host to use."""
        return self.threads or available_cores()

    @property
    def host(self) -> Device:
        """The CPU, with as many cores."""
        return Device("cpu", threads=self.threads)

    @property
    def providers(self) -> Providers:
        """Providers with options, in the order to give a session.

        cuDNN's algorithms are its heuristic's, the same in each run and found without a trial for
        each new shape. Each session has an arena of its own, which grows by what is asked for
        alone: doubled, those of a run's sessions would hold several times what they use.
        """
        cpu: Providers = [(CPU_PROVIDER, {})]
        if self.kind == "cpu":
            return cpu
        options = {
            "device_id": str(self.index),
            "use_tf32": str(int(self.tf32)),
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
        }
        return [(CUDA_PROVIDER, options), *cpu]

    @property
    def exact_providers(self) -> Providers:
        """The same for sessions that are compared: no TF32, and the same kernels in each."""
        exact = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
        return [
            (name, {**options, **exact} if name == CUDA_PROVIDER else options)
            for name, options in self.providers
        ]

    def forward_providers(self, threads: int = 0) -> Providers:
        """Return those of a session of the shipped graph.

        Parameters
        ----------
        threads
            Within an operator; as many as the device may use cores when 0.
        """
        ahead: Providers = []
        if self.forward == "openvino":
            # Elsewhere than on a CPU, and on CPUs that can, it would compute in 16 bits.
            options = {"device_type": "CPU", "precision": "FP32"}
            options["num_of_threads"] = str(threads or self.cores)
            ahead = [(self.forward_provider, options)]
        elif self.forward == "tensorrt":
            ahead = [(self.forward_provider, {"device_id": str(self.index)})]
        return [*ahead, *self.providers]

    def __str__(self) -> str:
        if self.kind == "cpu":
            return self.forward or self.kind
        return f"{self.forward or self.kind}:{self.index}"


CPU = Device("cpu")
"""The CPU, with all cores that the process may use."""
