"""Make the API documentation from the docstrings: python .ci/docs.py [FOLDER] (default build/docs).

Needs `pip install -e ".[docs]"`. A warning is an error. The modules that import torch are left out
where it is missing.
"""

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import pdoc  # noqa: E402
from pdoc.extract import walk_specs  # noqa: E402

import cloakify  # noqa: E402

NEED_TORCH = ("cloakify.runtime.torch_module", "cloakify.runtime.bridge")


def main() -> None:
    """Write the pages."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    for name in cloakify.__all__:
        # They are imported when first used, and pdoc looks at what is there.
        setattr(cloakify, name, getattr(cloakify, name))
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "cloakify").rglob("*.py")
        if path.name != "__main__.py"
    )
    specs: list[str] = []
    covered: set[str] = set()
    for module in modules:
        if module in covered or (module in NEED_TORCH and find_spec("torch") is None):
            continue
        specs.append(module)
        covered |= set(walk_specs([module]))
    warnings.simplefilter("error")
    pdoc.render.configure(docformat="numpy", footer_text=f"cloakify {cloakify.__version__}")
    pdoc.pdoc(*specs, output_directory=folder)
    print(f"{len(covered)} pages in {folder}")


main()
