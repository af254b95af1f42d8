"""Fitting replaced layers to the activations of the original network."""
