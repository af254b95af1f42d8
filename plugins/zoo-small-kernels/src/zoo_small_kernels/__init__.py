"""The technique small-kernels."""
