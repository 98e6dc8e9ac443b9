"""How a mask or gates are found, put in, and proven."""
