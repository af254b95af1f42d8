"""Measuring an exported file: quality, agreement with another file, latency."""
