"""The tables by which torch translates to ONNX, built once and not for every export."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def kept_translation_tables() -> Iterator[None]:
    """Share, within the context, the tables of translations and decompositions with earlier exports.

    Otherwise each export builds its own, for half a second. This reaches into torch, and does nothing if torch is
    built differently.
    """
    try:
        from torch.onnx._internal.exporter import _decomp, _registration

        registry: Any = _registration.ONNXRegistry
        translations = _kept(registry.from_torchlib)
        decompositions = _by_operators(_decomp.create_onnx_friendly_decomposition_table)
    except (ImportError, AttributeError):
        yield
        return
    replaced = [
        (registry, "from_torchlib", staticmethod(translations)),
        (_decomp, "create_onnx_friendly_decomposition_table", decompositions),
    ]
    before = [vars(owner)[name] for owner, name, _ in replaced]
    for owner, name, function in replaced:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name, _), function in zip(replaced, before, strict=True):
            setattr(owner, name, function)


@functools.cache
def _kept(build: Callable[..., Any]) -> Callable[..., Any]:
    return functools.cache(build)


@functools.cache
def _by_operators(choose: Callable[[set[Any]], dict[Any, Any]]) -> Callable[[set[Any]], dict[Any, Any]]:
    """Return the function with one result for each set of operators that have a translation."""

    @functools.cache
    def chosen(operators: frozenset[Any]) -> dict[Any, Any]:
        return choose(set(operators))

    return lambda operators: dict(chosen(frozenset(operators)))
