"""Applying a recipe: rewrite, train, export, measure, and write an artifact."""
