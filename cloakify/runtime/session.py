"""ONNX Runtime sessions that run where they were told to."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.errors import DeviceError, ModelError, OutOfMemoryError
from cloakify.graph.analysis.inputs import data_inputs
from cloakify.graph.lowering.data_dependent_shapes import shaped_by_values
from cloakify.limits.stages import MEMORY, Stage
from cloakify.onnxfile.sizes import weights_size
from cloakify.onnxfile.walk import iter_graphs
from cloakify.ort import ORT_ERRORS
from cloakify.printable import one_line
from cloakify.runtime.devices import Device, Providers
from cloakify.runtime.runs import tell_of_run
from cloakify.runtime.weights_beside import Values, hand_over

# Bytes that a session may take besides what its weights and samples do; other providers than the
# CPU load large libraries.
PROVIDER_MEMORY = 8 << 30

# Bytes of weights from which on copies of them, each in the order in which a session reads it
# fastest, weigh more than the few per cent of time that they save.
PACKED_LIMIT = 1 << 28

# They transpose a constant under its own name where that spares a node, but not the value that was
# handed over in its place: of a square one nobody would know. The one on all nodes, and the one on
# those that the CPU has got.
REWRITING_CONSTANTS = ["TransposeOptimizer", "TransposeOptimizer_CPUExecutionProvider"]

# Nodes up to which the runtime may rewrite a graph: that takes it time with the square of their
# number, 3 s for 8,000 on one core, where opening it as it is written takes half a second.
MOST_REWRITTEN = 10_000

# What the runtime, the C++ library and NVIDIA's libraries say where memory does not suffice.
OUT_OF_MEMORY = (
    "Failed to allocate memory",
    "bad_alloc",
    "out of memory",
    "cudaErrorMemoryAllocation",
    # cuBLAS's and cuDNN's, cuDNN 9's own, and TensorRT's.
    "STATUS_ALLOC_FAILED",
    "_ALLOCATION_FAILED",
    "OutOfMemory",
    # An arena's whose size is limited.
    "is smaller than requested bytes",
)

# Has products of 8-bit numbers be exact, by unsigned weights.
_EXACT = "session.x64quantprecision"
_NO_KERNEL = "Failed to find kernel"
# Where the runtime fuses a product with weights of 4 bits, which depends on what else is in the
# graph, it rounds features to 8 bits unless this asks for floats.
_FUSED_PRODUCTS, _OF_FLOATS = "session.qdq_matmulnbits_accuracy_level", "1"

_FLOATS: dict[str, np.dtype[np.generic]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
}

# What errors of opening name where not the model is at fault.
_LIBRARIES = {
    "cuda": ("CUDA",),
    "tensorrt": ("CUDA", "TensorRT", "Tensorrt", "nvinfer"),
    "openvino": ("OpenVINO", "openvino"),
}

Value: TypeAlias = NDArray[np.generic] | ort.OrtValue


class Session:
    """A model opened by ONNX Runtime on one device.

    Parameters
    ----------
    model
        A message with its weights in it, or the path of a file (sidecars are found beside it).
    device
        Where to run.
    threads
        Threads within an operator; as many as the device may use cores when left out.
    optimise
        Whether ONNX Runtime may rewrite the graph; without, it runs what is written, and on a GPU
        in the precision that is written. Graphs of very many nodes are never rewritten.
    both_ways
        Whether products read the same weights forward and back. Each would keep a copy of its own
        in the order in which it reads them, for a few per cent of time; large weights are read as
        they are.
    forward
        Whether it is the shipped graph, which the device may have a provider of its own for.
    exact
        Whether products of 8-bit numbers are exact on every processor. Left to itself, ONNX Runtime
        adds pairs of them in 16 bits on those without VNNI, and cuts off what is more. Products
        with weights of 4 bits are of floats then, where it would round what they are multiplied by.

    Attributes
    ----------
    inputs, outputs
        Names, in the model's order.

    Raises
    ------
    ModelError
        ONNX Runtime refuses the model.
    OutOfMemoryError
        The device's memory does not suffice.
    DeviceError
        The device does not take the session.
    """

    def __init__(
        self,
        model: ModelProto | str | os.PathLike[str],
        device: Device,
        *,
        threads: int = 0,
        optimise: bool = True,
        both_ways: bool = False,
        forward: bool = False,
        exact: bool = True,
    ) -> None:
        self.device = device
        size = weights_size(model) if isinstance(model, ModelProto) else 0
        options = _options(device, threads, size, both_ways=both_ways)
        options.add_session_config_entry(_EXACT, str(int(exact)))
        if exact:
            options.add_session_config_entry(_FUSED_PRODUCTS, _OF_FLOATS)
        if not optimise or _is_long(model):
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._allowed = MEMORY if str(device) == "cpu" else PROVIDER_MEMORY
        providers = device.providers if optimise else device.exact_providers
        if forward and optimise:
            providers = device.forward_providers(threads)
        try:
            with Stage("opening it in ONNX Runtime", size, memory=self._allowed):
                _return_freed_memory()
                source: str | bytes
                self._weights: Values = {}
                if isinstance(model, ModelProto):
                    source, self._weights = hand_over(model, options)
                else:
                    source = os.fspath(model)
                kept = REWRITING_CONSTANTS if self._weights else None
                self._session = _opened(source, options, providers, kept)
        except ORT_ERRORS as error:
            raise _opening_error(error, device) from error
        # Kept for the fallback alone, and as large as the weights.
        self._session._model_bytes = None
        self._used = False
        self._size = size
        self._moving = _is_moving(model)
        if self._session.get_providers()[0] != providers[0][0]:
            raise DeviceError(f"ONNX Runtime gave {self._session.get_providers()[0]}, not {device}")
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())
        self._floats = {
            value.name: _FLOATS[value.type]
            for value in self._session.get_inputs()
            if value.type in _FLOATS
        }

    def as_taken(self, name: str, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return an array as the input of that name takes it: floats in its own type.

        A graph may compute in another one than that of its samples.
        """
        dtype = self._floats.get(name)
        is_moved = dtype is not None and array.dtype.kind == "f"
        return array.astype(dtype, copy=False) if is_moved else array

    def run(
        self, feeds: Mapping[str, Value], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """Run the model and return its outputs as arrays, by name.

        Raises
        ------
        ModelError
            ONNX Runtime fails on these inputs.
        OutOfMemoryError
            The device's memory does not suffice.
        """
        values = self.run_on_device(feeds, outputs)
        return {name: value.numpy() for name, value in values.items()}

    def run_on_device(
        self, feeds: Mapping[str, Value], outputs: Sequence[str] | None = None
    ) -> dict[str, ort.OrtValue]:
        """Run the model and leave its outputs where they were computed.

        What one run returns can be fed to the next without a copy to the host.

        Raises
        ------
        ModelError, OutOfMemoryError
            As :meth:`run`.
        """
        wanted = self.outputs if outputs is None else outputs
        binding = self._session.io_binding()
        try:
            for name, value in feeds.items():
                if not isinstance(value, ort.OrtValue):
                    value = self.put(value)
                binding.bind_ortvalue_input(name, value)
            for name in wanted:
                binding.bind_output(name, self.device.kind, self.device.index)
            with self._bounds(feeds):
                self._session.run_with_iobinding(binding)
        except ORT_ERRORS as error:
            raise _running_error(error) from error
        tell_of_run()
        return dict(zip(wanted, binding.get_outputs(), strict=True))

    def _bounds(self, feeds: Mapping[str, Value]) -> AbstractContextManager[None]:
        """Return what bounds a run: the first one, as far as runs are alike."""
        if self._used and not self._moving:
            return nullcontext()
        if not self._used:
            # Not sooner: by now whoever opened the session has let go of the model.
            self._used = True
            _return_freed_memory()
        fed = sum(_bytes_of(value) for value in feeds.values())
        return Stage("running it", self._size, fed, memory=self._allowed)

    def put(self, array: NDArray[np.generic]) -> ort.OrtValue:
        """Return an array as a value on the session's device; on the CPU nothing is copied.

        Raises
        ------
        OutOfMemoryError
            The device's memory does not suffice.
        """
        whole = np.ascontiguousarray(array)
        try:
            return ort.OrtValue.ortvalue_from_numpy(whole, self.device.kind, self.device.index)
        except ORT_ERRORS as error:
            raise _running_error(error) from error


def _is_long(model: ModelProto | str | os.PathLike[str]) -> bool:
    """Tell whether a graph has so many nodes that to rewrite it takes longer than it can save."""
    return isinstance(model, ModelProto) and len(model.graph.node) > MOST_REWRITTEN


def _opened(
    source: str | bytes,
    options: ort.SessionOptions,
    providers: Providers,
    disabled: list[str] | None,
) -> ort.InferenceSession:
    """Open a session; exact products of signed with signed numbers need no option, nor take it."""

    def opened() -> ort.InferenceSession:
        # The fallback would print to standard output and go on without the device asked for.
        return ort.InferenceSession(
            source,
            options,
            providers=providers,
            disabled_optimizers=disabled,
            enable_fallback=0,
        )

    try:
        return opened()
    except ORT_ERRORS as error:
        if _NO_KERNEL not in str(error) or options.get_session_config_entry(_EXACT) == "0":
            raise
    # Weights become unsigned, which ONNX Runtime then has no product of with signed features.
    options.add_session_config_entry(_EXACT, "0")
    return opened()


def _options(device: Device, threads: int, size: int, *, both_ways: bool) -> ort.SessionOptions:
    """Return how a model with so many bytes of weights is opened."""
    options = ort.SessionOptions()
    # Left to itself, ONNX Runtime takes all cores there are, whatever the process may use.
    options.intra_op_num_threads = threads or device.cores
    # Errors arrive as exceptions; warnings about odd but valid graphs help nobody here.
    options.log_severity_level = 4
    # A plan of all memory would be made after the first run, and be held beside what that took.
    options.enable_mem_pattern = False
    # Nodes run as early as they can, in the order written: derivatives of activations right
    # behind them, while they are cached, after which the activations are let go.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    if size > PACKED_LIMIT:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if both_ways:
        # The runtime moves transposes across quantisation, and gets the type of ours wrong.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Idle threads that spin take the cores from whatever computes in turns with the session:
    # an attack's forward and gradient sessions take up to twice as long with it on two cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What is summed by atomic additions comes out otherwise each time: other kernels then.
    options.use_deterministic_compute = device.kind == "cuda"
    return options


def _bytes_of(value: Value) -> int:
    return int(value.nbytes) if isinstance(value, np.ndarray) else value.tensor_size_in_bytes()


def _is_moving(model: ModelProto | str | os.PathLike[str]) -> bool:
    """Tell whether what a run takes depends on the values that are fed, not on their shapes."""
    if not isinstance(model, ModelProto):
        return True
    nodes = [*(node for graph in iter_graphs(model.graph) for node in graph.node)]
    nodes += [node for function in model.functions for node in function.node]
    inputs = [value.name for value in data_inputs(model)]
    return any(node.op_type == "Loop" for node in nodes) or bool(
        shaped_by_values(model.graph.node, inputs)
    )


def _return_freed_memory() -> None:
    """Have the C library return what it was given back: models and copies of their weights."""
    if sys.platform == "linux":
        # Only glibc holds on to it, and only glibc has this function.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _opening_error(error: Exception, device: Device) -> Exception:
    text = one_line(error)
    if _is_memory(text):
        return OutOfMemoryError(f"{device}: its memory does not suffice for the model: {text}")
    if any(name in text for name in _LIBRARIES.get(device.forward or device.kind, ())):
        return DeviceError(f"{device}: {text}")
    return ModelError(f"ONNX Runtime refuses the model: {text}")


def _running_error(error: Exception) -> Exception:
    text = one_line(error)
    if _is_memory(text):
        return OutOfMemoryError(f"the device's memory does not suffice: {text}")
    return ModelError(f"ONNX Runtime failed while running the model: {text}")


def _is_memory(text: str) -> bool:
    return any(sign in text for sign in OUT_OF_MEMORY)
