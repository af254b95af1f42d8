"""Child processes: how each one is started, and the limits it gives itself."""
