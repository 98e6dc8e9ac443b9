"""What is proven of two files: that a mask, or gates, are all that tells them apart."""
