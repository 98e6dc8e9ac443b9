"""How a model's inputs are made: what comes with it, and what a user says instead.

The first of these that says anything counts, and an option counts before it, each on its own:

    --preset   preprocessor_config.json   config.json (timm)   the model's metadata   its graph

A hardened file says in its metadata how its source's inputs were made when it was hardened.

Without any of them pixels are in [0, 1], and images are cut to the model's size.
"""

from cloakify.experiment.model_settings.resolve import (
    InputSettings,
    find_tokenizer,
    input_settings,
    names_of_classes,
)

__all__ = ["InputSettings", "find_tokenizer", "input_settings", "names_of_classes"]
