"""From a model to a working copy that gradient rules can be written against."""
