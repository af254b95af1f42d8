"""Recipes: ordered compositions of techniques, as text, as TOML, checked, canonical and fingerprinted."""

from __future__ import annotations

from zoo.recipes.grammar import Recipe, Stage, parse, parse_stage

__all__ = ["Recipe", "Stage", "parse", "parse_stage"]
