"""Operators written out as others, each kind in a file of its own; the table lists them."""
