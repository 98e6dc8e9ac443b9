"""What a file says of itself: facts must be what is found, and claims of harden's own form."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.verification.mask_edit import metadata_faults

FACTS = {"head": "fc", "mask.total": "8"}
# Of each claim what harden writes, and what it never does.
CLAIMS = {
    "version": (["0.1.0", "1.0rc1+x"], ["", "v1", "1 0", "1.0\n"]),
    "attack": (["fgsm", "apgd-t"], ["", "FGSM", "-x", "a_b"]),
    "eps": (["0.03", "1", "1e-05", "3.2e+10"], ["", "-1", ".5", "1.", "nan", "0,03"]),
    "seed": (["0", "12"], ["", "-1", "1.5", "٣"]),
    "data.sha256": (["0" * 64, "af" * 32], ["", "0" * 63, "0" * 65, "g" * 64, "A" * 64]),
}
MADE = (['{"scale":255.0}', '{"mean":[0.5]}'], ["", "{}", '{"scale": 255.0}', '{"size":3}', "x"])


def one_of(values: tuple[list[str], list[str]]) -> st.SearchStrategy[tuple[str | None, bool]]:
    """Draw a value and whether it is sound; None for one that is missing."""
    sound, unsound = values
    told = [(value, True) for value in sound] + [(value, False) for value in unsound]
    return st.sampled_from([*told, (None, False)])


@given(
    st.fixed_dictionaries({key: one_of(values) for key, values in CLAIMS.items()}),
    st.fixed_dictionaries(
        {key: st.sampled_from([value, "9", None]) for key, value in FACTS.items()}
    ),
    one_of(MADE),
    st.sets(st.sampled_from(["layers", "note", "mask.size"])),
)
def test_each_entry_that_is_not_as_it_should_be_is_named(
    claims: dict[str, tuple[str | None, bool]],
    facts: dict[str, str | None],
    made: tuple[str | None, bool],
    more: set[str],
) -> None:
    said = {key: value for key, (value, _) in claims.items()} | facts
    said |= {"preprocessing": made[0]} | dict.fromkeys(more, "all")
    present = {key: value for key, value in said.items() if value is not None}
    found = metadata_faults(present, FACTS, ("layers",))
    wrong = {key for key, (_, sound) in claims.items() if not sound}
    wrong |= {key for key, value in facts.items() if value != FACTS[key]}
    # How inputs are made need not be said.
    wrong |= {"preprocessing"} if made[0] is not None and not made[1] else set()
    wrong |= more - {"layers"}
    named = [re.match(r"metadata cloakify\.(\S+) (.*)", fault) for fault in found]
    assert all(named) and sorted(match[1] for match in named if match) == sorted(wrong)
    for match in filter(None, named):
        key, words = match.groups()
        value = said[key]
        if key in more:
            assert words == "is not cloakify's"
        elif key in FACTS:
            assert words == f"says {value!r}, found {FACTS[key]!r}"
        else:
            told = f"says {value!r}, as harden never does"
            assert words == ("is missing" if value is None else told)


@pytest.mark.parametrize("key", CLAIMS)
def test_a_claim_alone_is_all_that_is_told(key: str) -> None:
    sound = {name: values[0][0] for name, values in CLAIMS.items()}
    assert metadata_faults(sound, {}) == []
    for bad in CLAIMS[key][1]:
        assert len(metadata_faults({**sound, key: bad}, {})) == 1
