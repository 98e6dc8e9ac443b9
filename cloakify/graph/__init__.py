"""What a classifier's graph is made of, and how it is edited and differentiated."""
