"""Ask ONNX Runtime itself where it would place nodes on CUDA, without a GPU.

Its CUDA provider decides before anything is computed, and needs CUDA's libraries for no more than
that there is a device with memory. Stand-ins for these are compiled for one test run, and seen by a
process of its own alone. What such a session computes means nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto

from cloakify.runtime.resolve import built_for_cuda

SOURCE = Path(__file__).with_name("stand_in.c")
PROVIDER = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"

# Whose libraries are stood in for.
CUDA = 13

# What the driver's library is asked for before the provider is loaded, and what it opens by name.
_ASKED_BEFORE = {"libcuda.so.1": ("cuInit", "cuGetErrorString")}
_OPENED = {"libcudnn.so.9": "cudnn", "libcufft.so.12": "cufft"}

_ASKED = """
import json, sys
import onnxruntime as ort
for path in sys.argv[1:]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    try:
        session = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except Exception as error:
        print(json.dumps(str(error)))
        continue
    places = {"CUDA": [], "CPU": []}
    for part in session.get_provider_graph_assignment_info():
        place = places["CUDA" if part.ep_name.startswith("CUDA") else "CPU"]
        place += [node.op_type for node in part.get_nodes()]
    print(json.dumps(places))
"""


def missing() -> str | None:
    """Return what keeps the stand-in from being made here, or ``None``."""
    if not PROVIDER.exists():
        return "this onnxruntime has no CUDA"
    tools = [tool for tool in ("cc", "nm", "readelf", "strings") if shutil.which(tool) is None]
    if tools:
        return f"no {tools[0]}"
    if not hasattr(ort, "OrtEpAssignedNode"):
        return "this onnxruntime does not tell where it places nodes"
    built = built_for_cuda()
    if built is None or not built.startswith(f"{CUDA}."):
        return f"this onnxruntime is built for CUDA {built}, and CUDA {CUDA} is stood in for"
    return None


def places(models: Sequence[ModelProto], folder: Path) -> list[dict[str, list[str]] | str]:
    """Return the operators placed on ``CUDA`` and ``CPU`` of each model, or why it is refused."""
    paths = []
    for number, model in enumerate(models):
        paths.append(folder / f"{number}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    libraries = _build(folder)
    done = subprocess.run(
        [sys.executable, "-c", _ASKED, *map(str, paths)],
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _build(folder: Path) -> Path:
    """Compile a library for each that the provider loads, with all that it wants of it."""
    libraries = folder / "libraries"
    libraries.mkdir(exist_ok=True)
    source = SOURCE.read_text()
    written = set(re.findall(r"^\w[\w *]*?\**(\w+)\(", source, re.M))
    for library, names in _wanted().items():
        stem = library.partition(".")[0]
        # Handles are pointers to anything.
        rest = [
            f"int {name}(void **p) {{ static long handle; if (p) *p = &handle; return 0; }}"
            if "Create" in name and not name.startswith("cuda")
            else f"long {name}(void) {{ return 0; }}"
            for name in sorted(names - written)
        ]
        (libraries / f"{stem}.c").write_text("\n".join([source, *rest, ""]))
        script = libraries / f"{stem}.map"
        is_versioned = library not in (*_ASKED_BEFORE, *_OPENED)
        script.write_text(f"{library if is_versioned else ''} {{ global: *; }};\n")
        command = ["cc", "-w", "-shared", "-fPIC", f"-DLIBRARY_{stem}", f"-Wl,-soname,{library}"]
        command += [f"-Wl,--version-script,{script}", "-o", str(libraries / library)]
        subprocess.run([*command, str(libraries / f"{stem}.c")], check=True)
    return libraries


@cache
def _wanted() -> dict[str, set[str]]:
    """Return what the provider wants of each library."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for library, names in _ASKED_BEFORE.items():
        wanted[library].update(names)
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", PROVIDER], stdout=subprocess.PIPE, text=True, check=True
    )
    for line in symbols.stdout.splitlines():
        name, _, version = line.split()[-1].partition("@")
        if version.startswith("libcu"):
            wanted[version.lstrip("@")].add(name)
        elif not version and name.startswith("cu"):
            wanted["libcuda.so.1"].add(name)
    linked = subprocess.run(
        ["readelf", "-d", PROVIDER], stdout=subprocess.PIPE, text=True, check=True
    )
    for library in re.findall(r"\[(libcu\w+\.so\.\d+)\]", linked.stdout):
        wanted[library].add(f"{library.partition('.')[0]}StandIn")
    texts = subprocess.run(["strings", "-a", PROVIDER], stdout=subprocess.PIPE, text=True)
    for library, start in _OPENED.items():
        wanted[library].update(re.findall(rf"^{start}[A-Z]\w+$", texts.stdout, re.M))
    return wanted
