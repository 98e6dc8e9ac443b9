"""An opened model with its data, threat model, settings and device."""
