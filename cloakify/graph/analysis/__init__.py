"""What a model is, read from its graph: its inputs, its head, what it answers."""
