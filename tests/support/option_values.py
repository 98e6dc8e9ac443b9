"""Random values of options, drawn by what is declared of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st

from cloakify.errors import UsageError
from cloakify.settings import option_types
from cloakify.settings.option import Declaration
from cloakify.settings.verbs import options_of

# What a file's name may hold, a leading dash and spaces too, and no separator.
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1
)
PATHS = NAMES.filter(lambda name: name not in (".", "..")).map(Path)


def option_values(declared: Declaration) -> st.SearchStrategy[Any]:
    """Return values that an option takes, ``None`` among them where it does."""
    strategy = of_type(declared.hint)
    if option_types.is_optional(declared.hint):
        strategy = st.none() | strategy
    return strategy.filter(lambda value: _is_taken(declared, value))


def given_options(verb: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return values for some of a verb's options that differ from their defaults."""
    chosen = {
        declared.name: option_values(declared).filter(lambda value: value is not None)
        for declared, _ in options_of(verb)
        if not declared.option.command_only
    }
    return st.fixed_dictionaries({}, optional=chosen)


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Return values of a type, most of them within its bounds."""
    kind, meta = option_types.split_hint(hint)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is tuple:
        part, more = get_args(kind)
        if more is Ellipsis:
            return st.lists(of_type(part), min_size=1, max_size=3).map(tuple)
        return st.tuples(of_type(part), of_type(more))
    low, high = (getattr(meta, "ge", None), getattr(meta, "le", None)) if meta else (None, None)
    if kind is int:
        return st.integers(low, high)
    if kind is float:
        return st.floats(low, high, allow_nan=False, allow_infinity=False) | st.sampled_from(
            [level / 255 for level in range(1, 255)]
        )
    if kind is bool:
        return st.booleans()
    if kind is Path:
        return PATHS
    if meta is not None and meta.pattern is not None:
        return st.from_regex(meta.pattern, fullmatch=True)
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def _is_taken(declared: Declaration, value: Any) -> bool:
    try:
        declared.group(**{declared.field: value})
    except UsageError:
        return False
    return True
