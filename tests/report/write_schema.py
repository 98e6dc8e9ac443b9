"""Write the schema that the package ships, derived from the report's types.

Run it from the repository's root after a change of the types::

    python tests/report/write_schema.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "cloakify" / "report" / "schema" / "report.schema.json"

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from cloakify.report.json_report import render_schema

    SCHEMA.write_text(render_schema(), encoding="utf-8")
