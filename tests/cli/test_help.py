"""What the command says of itself before it does anything."""

from __future__ import annotations

import pytest

from cloakify.cli.main import run
from cloakify.exit_codes import ExitCode


def test_the_first_screen_begins_with_what_is_done_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    assert said.index("Example:") < said.index("Exit codes:") < said.index("Commands:")
    verbs = [line.split()[0] for line in said.partition("Commands:\n")[2].splitlines()]
    assert verbs == ["harden", "evaluate", "attack", "inspect", "verify", "devices"]
    assert max(map(len, said.splitlines())) <= 80
    codes = said.partition("Exit codes:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in codes] == [str(int(code)) for code in ExitCode]
    assert "..." not in said.partition("Commands:\n")[2]
