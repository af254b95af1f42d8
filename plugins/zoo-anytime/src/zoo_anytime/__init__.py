"""Anytime inference for zoo: networks that compute no more than an image or a budget needs."""
