"""Who does the work on samples, chunk by chunk: this process, or others elsewhere."""
