"""Progress: plain lines where there is no terminal, and none where nobody waits for long."""

from __future__ import annotations

import time

import pytest

from cloakify.cli import console


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "FIRST", 0.02)
    monkeypatch.setattr(console, "MOST", 0.05)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


@pytest.mark.usefixtures("hasty")
def test_a_long_step_still_gives_a_sign_of_life(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bars(quiet=False) as progress:
        time.sleep(0.1)
        progress("attacking · first batch", 1, 4)
        time.sleep(0.2)
    found = lines(capsys)
    assert found[0].startswith("starting after 1 s")
    assert found[-1].startswith("attacking · first batch: 25 % after 1 s, about 1 s to go")
    time.sleep(0.1)
    assert lines(capsys) == []


@pytest.mark.usefixtures("hasty")
def test_work_of_no_known_amount_has_no_share_done(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bars(quiet=False) as progress:
        progress("work after attacking · 3 runs", 0, 1)
        time.sleep(0.2)
    assert lines(capsys)[-1].startswith("work after attacking · 3 runs after 1 s")


@pytest.mark.usefixtures("hasty")
def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bars(quiet=True) as progress:
        progress("attacking", 1, 4)
        time.sleep(0.1)
    assert lines(capsys) == []


def test_a_short_run_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bars(quiet=False) as progress:
        progress("attacking", 1, 4)
    assert lines(capsys) == []


@pytest.mark.usefixtures("hasty")
def test_lines_end_with_the_run_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), console.progress_bars(quiet=False) as progress:
        progress("attacking", 0, 0)
        raise ZeroDivisionError
    lines(capsys)
    time.sleep(0.1)
    assert lines(capsys) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (40.4, "40 s"), (89, "89 s"), (91, "2 min"), (5399, "90 min"), (5400, "1.5 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert console.lasting(seconds) == text


def test_classes_are_told_where_their_names_say_something(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for names, told in ((None, ""), (("0", "1"), ""), (("1", "0"), "Classes: 0 1, 1 0\n")):
        console.remark_data([], names, quiet=False)
        assert capsys.readouterr().err == told
