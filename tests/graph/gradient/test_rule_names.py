"""Rules are of operators that there are: a name that nothing runs by can't be tested by running."""

from __future__ import annotations

from onnxruntime.capi import onnxruntime_pybind11_state as runtime

import cloakify.graph.gradient.rules  # noqa: F401  (registers the rules)
from cloakify.graph.gradient.rule import _RULES, has_rule


def test_every_rule_is_of_an_operator_that_the_runtime_knows() -> None:
    known = {(schema.domain, schema.name) for schema in runtime.get_all_operator_schema()}
    assert sorted(set(_RULES) - known) == []


def test_an_operator_of_another_domain_is_another_one() -> None:
    for domain, name in _RULES:
        assert has_rule(domain, name) and not has_rule("elsewhere", name)
