"""A short run of the fuzzer; a long one is `python tests/fuzz/run.py --count 10000`."""

from __future__ import annotations

import pytest

from tests.fuzz.cases import make_case
from tests.fuzz.run import IN_CHILDREN, fuzz
from tests.fuzz.trial import judge


@pytest.mark.parametrize("kind", IN_CHILDREN)
def test_mutants_end_as_documented(kind: str) -> None:
    assert fuzz(kind, seed=7, first=0, count=20) == {}


@pytest.mark.slow
def test_models_that_ask_for_much_end_within_limits() -> None:
    assert fuzz("explosive", seed=7, first=0, count=20) == {}


@pytest.mark.parametrize("kind", [*IN_CHILDREN, "explosive"])
def test_a_case_can_be_told_again(kind: str) -> None:
    assert make_case(kind, 3, 11) == make_case(kind, 3, 11)
    assert make_case(kind, 3, 11) != make_case(kind, 3, 12)


@pytest.mark.parametrize(
    ("code", "said", "right"),
    [
        (0, "", True),
        (0, "Note: odd\n", True),
        (3, "Error: no model\n", True),
        (0, "something\n", False),
        (3, "Error: no model\nand more\n", False),
        (3, "", False),
        (-11, "", False),
        (139, "", False),
        (1, "Traceback (most recent call last):\n", False),
        ("raised KeyError", "KeyError: 3\n", False),
    ],
)
def test_what_is_wrong_is_seen(code: int | str, said: str, right: bool) -> None:
    assert (judge(code, said) is None) is right
