class Logger:
    CRITICAL: int
    ERROR: int
    severity: int

G_LOGGER: Logger
