"""What every package about graphs reads and rewrites messages with."""
