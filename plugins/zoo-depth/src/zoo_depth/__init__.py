"""Depth from one image for zoo: networks, a task, and data."""
