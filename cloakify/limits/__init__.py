"""What a stranger's model may take: memory and time, watched from another process."""
