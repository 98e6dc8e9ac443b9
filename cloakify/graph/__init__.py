"""What a classifier's graph is made of, and how it is edited and differentiated."""

from onnx_graphsurgeon.logger import G_LOGGER

# graphsurgeon prints its warnings to the terminal of whoever imports it; errors are exceptions.
G_LOGGER.severity = G_LOGGER.CRITICAL
