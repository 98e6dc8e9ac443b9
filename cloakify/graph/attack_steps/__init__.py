"""What is appended to a classifier for attacks: a loss, its gradient, and a step."""
