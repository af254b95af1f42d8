"""Building blocks that architectures and techniques share."""
