"""Numbers that every layer shares: types of arrays, norms, intervals, an optimiser."""
