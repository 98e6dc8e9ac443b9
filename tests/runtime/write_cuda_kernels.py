"""Write the table of CUDA kernels that the package ships, from ONNX Runtime's own list.

Run it from the repository's root with a checkout of https://github.com/microsoft/onnxruntime::

    python tests/runtime/write_cuda_kernels.py PATH/docs/OperatorKernels.md VERSION

VERSION says which state of the list it is. What a newer release has besides is added from
`cuda_kernels_newer.tsv` beside this file; `test_cuda_placement.py` compares the two with the
release that is installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx.defs

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "cloakify" / "runtime" / "cuda_kernels.tsv"
NEWER = Path(__file__).with_name("cuda_kernels_newer.tsv")

HEAD = """\
# Operators that ONNX Runtime's CUDA provider has kernels for, one kernel a line, by tabs: domain,
# operator, first opset version, last one (- where none is said), the types of each type variable,
# and for domains of ONNX Runtime's own the variables of the inputs, > and of the outputs.
# Lines that begin with "cpu" name functions of the standard that the CPU provider runs itself, so
# that they are not written out: operator, first and last opset version.
# Facts from docs/OperatorKernels.md of https://github.com/microsoft/onnxruntime (MIT),
# {version};
# written by tests/runtime/write_cuda_kernels.py.
"""
DOMAINS = ("ai.onnx", "com.microsoft")


def kernels_of(text: str, provider: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield domain, operator, parameters, versions and types of each row of one provider."""
    start = text.index(f"## Operators implemented by {provider}")
    end = text.find("## Operators implemented by ", start + 1)
    domain = operator = parameters = ""
    for line in text[start:end].splitlines():
        named = re.match(r"\|\*\*Operator Domain:\*\* \*(.+?)\*", line)
        cells = line.split("|")[1:-1]
        if named is not None:
            domain = named[1]
        elif len(cells) == 4 and "**" in cells[3] and domain in DOMAINS:
            operator, parameters = cells[0] or operator, cells[1] or parameters
            yield domain, operator, parameters, cells[2], cells[3]


def version_range(cell: str) -> tuple[str, str]:
    """Return first and last of ``13+``, ``[6, 12]`` or ``9``."""
    numbers = re.findall(r"\d+", cell)
    if cell.endswith("+"):
        return numbers[0], "-"
    return numbers[0], numbers[-1]


def variables(parameters: str) -> str:
    """Return the type variables of the first form of an operator: ``T T M>T``."""
    form = re.split(r"<br><br>or<br><br>", parameters)[0]
    found = re.findall(r"\*(in|out)\* [^:]+:\*\*(.+?)\*\*", form)
    sides = (" ".join(kind for side, kind in found if side == wanted) for wanted in ("in", "out"))
    return ">".join(sides)


def types(cell: str) -> str:
    """Return ``T=double,float M=int32``; sequences are left out, they are no attack's concern."""
    entries = []
    for entry in re.split(r"<br/> ", cell):
        name, _, kinds = entry.partition(" = ")
        tensors = re.findall(r"(?<!\()tensor\((\w+)\)", kinds)
        entries.append(f"{name.strip('*')}={','.join(tensors)}")
    return " ".join(entries)


def lines(text: str) -> list[str]:
    """Return the table's lines."""
    table = []
    for domain, operator, parameters, versions, kinds in kernels_of(text, "CUDAExecutionProvider"):
        kinds = types(kinds)
        if not re.search(r"=\w", kinds):
            continue
        own = domain != "ai.onnx"
        fields = [domain if own else "", operator, *version_range(versions), kinds]
        table.append("\t".join([*fields, variables(parameters)] if own else fields))
    functions = {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == "" and (schema.has_function or schema.has_context_dependent_function)
    }
    for domain, operator, _, versions, _ in kernels_of(text, "CPUExecutionProvider"):
        if domain == "ai.onnx" and operator in functions:
            table.append("\t".join(["cpu", operator, *version_range(versions)]))
    return table


if __name__ == "__main__":
    source, version = sys.argv[1:]
    rows = lines(Path(source).read_text(encoding="utf-8"))
    newer = NEWER.read_text(encoding="utf-8")
    TABLE.write_text(
        HEAD.format(version=version) + "\n".join(rows) + "\n" + newer, encoding="utf-8"
    )
