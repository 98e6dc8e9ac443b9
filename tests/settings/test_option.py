"""Declarations: text and values, and what must be said of every option."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.errors import UsageError
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting, files
from cloakify.settings.groups import HEADINGS
from cloakify.settings.option import Declaration, Group, declarations
from cloakify.settings.settings import Settings

VERBS: list[type[Settings]] = [HardenSetting, EvaluateSetting, AttackSetting]
FILES = [
    kind
    for kind in vars(files).values()
    if isinstance(kind, type) and issubclass(kind, Group) and kind.__module__ == files.__name__
]
EVERY = [
    *(declared for verb in VERBS for _, declared in verb.options().values()),
    *(declared for group in FILES for declared in declarations(group)),
]


def option(name: str, verb: type[Settings] = HardenSetting) -> Declaration:
    return verb.options()[name][1]


@pytest.mark.parametrize("declared", EVERY, ids=lambda each: f"{each.group.__name__} {each.flag}")
def test_every_option_is_said_well(declared: Declaration) -> None:
    said = declared.option.help
    assert said[0].isupper() and said.endswith(".") and len(said.split()) > 3, said
    assert declared.group.heading in HEADINGS
    assert declared.takes and declared.metavar
    if not declared.required:
        assert declared.check(declared.default) == declared.default
        if not declared.several and declared.default is not None:
            assert declared.parse(declared.write(declared.default)) == declared.default


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("eps", "8/255", 8 / 255),
        ("eps", "0.5/255", 0.5 / 255),
        ("eps", "1e-3", 1e-3),
        ("eps", " 1 / 4 ", 0.25),
        ("box", "none", None),
        ("box", "NONE", None),
        ("box", "0,255", (0.0, 255.0)),
        ("mask_ratio", "auto", None),
        ("mask_ratio", "1/20", 0.05),
        ("limit", "7", 7),
    ],
)
def test_text(name: str, text: str, value: object) -> None:
    assert option(name).parse(text) == value
    # From Python as well.
    assert option(name).check(text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("eps", text) for text in ("x", "8 / 0", "1/2/3", "", "nan", "inf", "-1", "0", "1e999")),
        *(("box", text) for text in ("0", "0,1,2", "0,x", "auto")),
        *(("limit", text) for text in ("0", "-1", "1.5", "1e3", "x", "")),
        ("norm", "l1"),
        ("max_accuracy_drop", "2"),
    ],
)
def test_wrong_text_is_one_line_with_what_is_taken(name: str, text: str) -> None:
    declared = option(name)
    with pytest.raises(UsageError) as caught:
        declared.parse(text)
    assert str(caught.value).startswith(f"{declared.flag} takes {declared.takes}, not ")


@given(st.floats(0, 1e30, exclude_min=True), st.integers(1, 254))
def test_numbers_keep_their_last_bit(number: float, level: int) -> None:
    eps = option("eps")
    assert eps.parse(eps.write(number)) == number
    assert eps.write(level / 255) == (f"{level}/255" if level % 51 else f"0.{level // 51 * 2}")
