"""Print the architectures that were differentiated as a Markdown table."""

from __future__ import annotations

from collections import Counter

import pytest

COLUMNS = ("family", "model", "exporter", "result", "error")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = []
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            row = dict(getattr(report, "user_properties", ()))
            if "family" not in row:
                continue
            if "error" not in row:
                row["error"] = _reason(report)
            rows.append({"exporter": "", "result": outcome} | row)
    if not rows:
        return
    rows.sort(key=lambda row: row["family"])
    terminalreporter.section("architectures")
    terminalreporter.write_line(f"| {' | '.join(COLUMNS)} |")
    terminalreporter.write_line("|---" * len(COLUMNS) + "|")
    for row in rows:
        terminalreporter.write_line(f"| {' | '.join(row[column] for column in COLUMNS)} |")
    terminalreporter.write_line("")
    for family in (*dict.fromkeys(row["family"] for row in rows), "all"):
        count = Counter(row["result"] for row in rows if family in (row["family"], "all"))
        run = count["passed"] + count["failed"]
        text = f"{family}: {count['passed']} of {run} agree"
        terminalreporter.write_line(text + f", {count['skipped']} skipped" * bool(count["skipped"]))


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        text = report.longrepr[2].removeprefix("Skipped: ")
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else str(report.longrepr)
    return text.splitlines()[0].replace("|", "\\|")[:160] if text else ""
