"""Run the commands of cases in this process, and say where one ends otherwise than documented."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from tests.fuzz.cases import Case, make_case

DOCUMENTED = range(7)


def try_case(case: Case, folder: Path) -> list[str]:
    """Run a case's commands in a folder; return what is wrong, nothing where all is right."""
    case.write(folder)
    found = []
    for command in case.commands:
        code, said = run_here(command, folder)
        wrong = judge(code, said)
        if wrong:
            found.append(f"{' '.join(command)}: {wrong}")
    return found


def judge(code: int | str, said: str) -> str | None:
    """Return what is wrong with how a command ended, by its exit code and standard error."""
    if "Traceback" in said or not isinstance(code, int):
        place = [line for line in said.splitlines() if "/cloakify/" in line]
        return "\n".join([str(code), *place[-1:], *said.splitlines()[-1:]])
    if code not in DOCUMENTED:
        return f"ended with {code}: {said[-300:]}"
    errors = [line for line in said.splitlines() if not line.startswith(("Note: ", "Classes: "))]
    # 6 is a verdict of verify, and no error.
    if 1 < code < 6 and (len(errors) != 1 or not errors[0].startswith("Error: ")):
        return f"ended with {code} and not with one line: {said[-600:]}"
    if code == 0 and errors:
        return f"ended with 0 and said {errors[:3]}"
    return None


def run_here(command: list[str], folder: Path) -> tuple[int | str, str]:
    """Run a command in this process; return its exit code, or the exception, and standard error."""
    from cloakify.cli.main import run

    said = io.StringIO()
    before = os.getcwd()
    os.chdir(folder)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            try:
                code: int | str = run(command)
            except BaseException as error:  # noqa: BLE001  (what is looked for)
                traceback.print_exc()
                code = f"raised {type(error).__name__}"
    finally:
        os.chdir(before)
    return code, said.getvalue()


def main(kind: str, seed: int, first: int, last: int) -> None:
    """Try cases, and write a line of JSON behind each to standard output."""
    for number in range(first, last):
        with tempfile.TemporaryDirectory(prefix="cloakify-fuzz-") as folder:
            faults = try_case(make_case(kind, seed, number), Path(folder))
        print(json.dumps({"ended": number, "faults": faults}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
