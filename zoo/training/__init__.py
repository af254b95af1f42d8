"""Training: one loop for all techniques."""
