"""Which features to mask: statistics of clean and attacked features, scores, and the choice."""
