"""Changes to a model: masks and gates in a file that is shipped, cuts and taps in a copy."""
