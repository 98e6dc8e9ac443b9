"""A device is what was asked for, or an error that says what is missing."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from cloakify.errors import DeviceError, UsageError
from cloakify.runtime import Device, cuda_obstacle, device_report, resolve, resolve_device
from cloakify.runtime.devices import CPU_PROVIDER, CUDA_PROVIDER


@pytest.fixture
def cuda_build(monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA_PROVIDER, CPU_PROVIDER])
    monkeypatch.setattr(ort, "cuda_version", "13.0", raising=False)


@pytest.fixture
def working_cuda(cuda_build, monkeypatch):
    monkeypatch.setattr(resolve, "_load_wheels", lambda: None)
    monkeypatch.setattr(resolve, "_probe", lambda device, missing: None)


@pytest.mark.parametrize(
    "wanted", ["gpu", "cuda:", "cuda:-1", "CPU", "cpu:0", "", "cuda:1x", "cuda:٣"]
)
def test_an_unknown_name_is_refused(wanted):
    with pytest.raises(UsageError, match="--device takes auto, cpu, cuda or cuda:N"):
        resolve_device(wanted)


def test_the_cpu_is_taken_without_looking_for_more(monkeypatch):
    monkeypatch.setattr(resolve, "cuda_obstacle", lambda index: pytest.fail("looked for a GPU"))
    assert resolve_device("cpu") == Device("cpu")


def test_a_gpu_that_works_is_taken(gpus, working_cuda):
    gpus("NVIDIA H100", "NVIDIA H100")
    assert resolve_device("auto") == resolve_device("cuda") == Device("cuda", 0)
    assert str(resolve_device("cuda:1")) == "cuda:1"
    assert resolve_device("cuda:1").providers[0] == Device("cuda", 1).providers[0]


def refused(wanted: str) -> str:
    with pytest.raises(DeviceError) as caught:
        resolve_device(wanted)
    text = str(caught.value)
    assert text.startswith(f"--device {wanted}: ")
    assert text.endswith("; use --device cpu to run without a GPU")
    assert "\n" not in text
    return text


def test_a_gpu_that_is_not_there_is_refused(gpus, working_cuda):
    gpus("NVIDIA H100")
    assert "there is only 1 NVIDIA GPU;" in refused("cuda:1")
    gpus()
    assert "there are only 0 NVIDIA GPUs;" in refused("cuda")
    assert resolve_device("auto") == Device("cpu")


def test_a_build_without_cuda_is_refused(monkeypatch, gpus):
    gpus("NVIDIA H100")
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU_PROVIDER])
    assert "install onnxruntime-gpu in its place" in refused("cuda")
    assert resolve_device("auto") == Device("cpu")


def test_a_missing_driver_is_refused(no_driver, cuda_build):
    assert "no NVIDIA driver was found" in refused("cuda")


def test_a_failing_driver_is_refused_in_its_own_words(gpus, cuda_build):
    gpus("NVIDIA H100", error=100)
    assert "error 100 (no CUDA-capable device is detected)" in refused("cuda")


def test_a_driver_that_is_too_old_is_refused(gpus, cuda_build):
    gpus("NVIDIA H100", version=12080)
    assert "the driver serves CUDA 12.8, onnxruntime needs 13.0" in refused("cuda")


@pytest.mark.skipif(cuda_obstacle() is None, reason="CUDA works on this machine")
def test_missing_libraries_are_refused_and_nothing_is_printed(gpus, cuda_build, capfd):
    gpus("NVIDIA H100")
    text = refused("cuda")
    assert "pip install 'cloakify[cuda]'" in text
    assert capfd.readouterr() == ("", "")


def test_the_report_without_a_gpu(no_driver, cuda_build):
    report = device_report()
    assert report.onnxruntime == ort.__version__
    assert report.providers == (CUDA_PROVIDER, CPU_PROVIDER)
    assert (report.built_for_cuda, report.driver_cuda) == ("13.0", None)
    assert [str(entry.device) for entry in report.entries] == ["cpu"]
    assert report.missing == "no NVIDIA driver was found"
    assert report.default == Device("cpu")


def test_the_report_with_gpus(gpus, working_cuda):
    gpus("NVIDIA H100", "NVIDIA A10", version=13020)
    report = device_report()
    assert report.driver_cuda == "13.2"
    assert [(str(e.device), e.name, e.memory) for e in report.entries[1:]] == [
        ("cuda:0", "NVIDIA H100", 80 << 30),
        ("cuda:1", "NVIDIA A10", 80 << 30),
    ]
    assert report.missing is None
    assert report.default == Device("cuda", 0)


def test_the_report_with_a_gpu_that_can_not_be_used(gpus, cuda_build):
    gpus("NVIDIA H100", version=11040)
    report = device_report()
    assert report.missing == report.entries[1].obstacle
    assert "update the driver" in report.missing
    assert report.default == Device("cpu")
    gpus()
    assert device_report().missing == "the NVIDIA driver sees no GPU"


def test_what_is_compared_on_a_gpu_is_not_rounded_further() -> None:
    (name, options), (fallback, _) = Device("cuda", 1).exact_providers
    assert (name, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["device_id"] == "1" and options["use_tf32"] == "0"
    assert Device("cpu").exact_providers == Device("cpu").providers


def test_tf32_is_off_unless_asked_for(gpus, working_cuda) -> None:
    gpus("NVIDIA H100")
    (_, options), _ = resolve_device("cuda").providers
    assert options["use_tf32"] == "0"
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    wanted = resolve_device("cuda", tf32=True)
    assert wanted.providers[0][1]["use_tf32"] == "1"
    # What is compared stays exact.
    assert wanted.exact_providers[0][1]["use_tf32"] == "0"
    assert (resolve_device("cuda").described, wanted.described) == (
        "CUDAExecutionProvider, no TF32",
        "CUDAExecutionProvider, TF32",
    )


def test_another_provider_runs_the_shipped_graph_alone(gpus, working_cuda, monkeypatch) -> None:
    gpus("NVIDIA H100")
    names = ["TensorrtExecutionProvider", CUDA_PROVIDER, "OpenVINOExecutionProvider", CPU_PROVIDER]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    tensorrt, openvino = resolve_device("tensorrt:0"), resolve_device("openvino", 3)
    assert [name for name, _ in tensorrt.forward_providers()] == names[:2] + names[3:]
    assert [name for name, _ in tensorrt.providers] == [CUDA_PROVIDER, CPU_PROVIDER]
    assert (tensorrt.kind, openvino.kind) == ("cuda", "cpu")
    assert (str(tensorrt), str(openvino)) == ("tensorrt:0", "openvino")
    name, options = openvino.forward_providers(threads=1)[0]
    assert name == "OpenVINOExecutionProvider"
    assert (options["precision"], options["num_of_threads"]) == ("FP32", "1")
    assert openvino.forward_providers()[0][1]["num_of_threads"] == "3"
    assert openvino.providers == Device("cpu").providers
    assert openvino.described == "OpenVINOExecutionProvider, gradients CPUExecutionProvider"


@pytest.mark.parametrize(
    ("wanted", "package"),
    [("openvino", "onnxruntime-openvino"), ("tensorrt", "onnxruntime-gpu")],
)
def test_a_provider_that_is_not_built_in_is_refused(gpus, working_cuda, wanted, package) -> None:
    gpus("NVIDIA H100")
    with pytest.raises(DeviceError, match=rf"^--device {wanted}: .* \(install {package} in its"):
        resolve_device(wanted)
