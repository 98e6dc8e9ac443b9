"""Percentages are written in one form, ``62.3 %``, wherever people read them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from cloakify.printable import in_percent

ROOT = Path(__file__).parents[1]
# A number with a sign right behind it; %20 in a URL is none.
_CLOSE = re.compile(r"[0-9]%(?![0-9A-Fa-f]{2})")
_CODE = sorted((ROOT / "cloakify").rglob("*.py"))
_DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / ".github").glob("*.md"),
        *(ROOT / "cloakify").rglob("*.md"),
        *(ROOT / "tests").rglob("*.md"),
        *(ROOT / "sample_models").rglob("*.md"),
        *(ROOT / "cloakify" / "report" / "templates").glob("*.html*"),
    ]
)


def close_in(code: str) -> list[str]:
    """Return the texts of a program that write a percentage in another form."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            last = node.format_spec.values[-1]  # type: ignore[attr-defined]
            if isinstance(last, ast.Constant) and str(last.value).endswith("%"):
                found.append(ast.unparse(node))
        if isinstance(node, ast.JoinedStr):
            # The sign behind a placeholder stands at the beginning of the text that follows.
            found += [
                ast.unparse(node)
                for before, part in zip(node.values, node.values[1:], strict=False)
                if isinstance(before, ast.FormattedValue)
                and isinstance(part, ast.Constant)
                and str(part.value).startswith("%")
            ]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [node.value] if _CLOSE.search(node.value) else []
    return found


def test_a_share_in_percent() -> None:
    assert in_percent(0.6234) == "62.3 %"
    assert in_percent(1, 0) == "100 %"
    assert in_percent(0.00126, 2) == "0.13 %"


def test_this_test_finds_them() -> None:
    assert close_in("f'{x:.1%}'")
    assert close_in("f'{x}% of'")
    assert close_in("'a 95% interval'")
    assert not close_in("f'{x:.1f} %'; a % b; '%s' % c; 'a%20b'")


def test_so_they_are_in_the_package() -> None:
    assert {path: found for path in _CODE if (found := close_in(path.read_text("utf-8")))} == {}


def test_so_they_are_in_documents() -> None:
    lines = re.compile(f".*{_CLOSE.pattern}.*")
    told = {path: lines.findall(path.read_text("utf-8")) for path in _DOCUMENTS}
    assert {path: found for path, found in told.items() if found} == {}
