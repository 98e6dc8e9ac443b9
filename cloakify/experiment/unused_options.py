"""Options that say nothing of the samples there are: said, as who gave one expects something of it.

They are no error: a file beside the model says how images are made, and the same command may be
given arrays.
"""

from __future__ import annotations

import os

from cloakify.settings import DataOptions
from cloakify.settings.forms import COLOURS, IMAGES, NUMBERS, PIXELS, TEXT_FILES, TOKENS
from cloakify.settings.option import declarations

# What samples are, whatever else is so.
_SAMPLES = (IMAGES, PIXELS, NUMBERS, TOKENS)


def unused_options(options: DataOptions, forms: frozenset[str], where: str) -> tuple[str, ...]:
    """Return what to say of options that have no effect on samples.

    They may have one on attacked copies, or on samples without labels, of another form.

    Parameters
    ----------
    options
        As the user gave them, or a file that was read.
    forms
        Of the samples, as :attr:`~cloakify.data.Dataset.forms` has them.
    where
        What messages call the data.
    """
    if options.classes is not None and os.path.isfile(options.classes):
        forms |= {TEXT_FILES}
    unused: dict[tuple[str, ...], list[str]] = {}
    for declared in declarations(DataOptions):
        given = getattr(options, declared.field) != declared.default
        if given and declared.option.of and forms.isdisjoint(declared.option.of):
            unused.setdefault(declared.option.of, []).append(declared.flag)
    (kind,) = forms.intersection(_SAMPLES)
    grey = ", of which the model takes no colours" if kind in (IMAGES, PIXELS) else ""
    said = []
    for of, flags in unused.items():
        have = "has" if len(flags) == 1 else "have"
        told = f"{', '.join(flags)} {have} no effect on {where}: that is for {' or '.join(of)}"
        said.append(f"{told}, and it holds {kind}{grey * (of == (COLOURS,))}")
    return tuple(said)
