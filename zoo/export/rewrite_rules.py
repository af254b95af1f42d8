"""The rules by which onnxscript simplifies an exported graph, tried only where they can match."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def narrowed_rewrite_rules() -> Iterator[None]:
    """Try, within the context, rules with several last nodes only at nodes of the first one's operator.

    Elsewhere such a rule walks the whole graph before it finds that it does not match: once for each node,
    which in a quantized network of some thousand nodes is a fifth of an export. The rules' results are the
    same. This reaches into onnxscript, and does nothing if onnxscript is built differently.
    """
    from onnxscript import rewriter

    narrowed = []
    for rule in getattr(rewriter, "_DEFAULT_REWRITE_RULES", ()):
        pattern = getattr(rule, "_target_pattern", None)
        several = not getattr(pattern, "has_single_output_node", True)
        last = getattr(pattern, "output_nodes", None)
        operator = last[0].op_identifier() if several and last else None
        if operator is not None and "try_rewrite" not in vars(rule):
            rule.try_rewrite = functools.partial(_try_rewrite, operator, rule.try_rewrite)
            narrowed.append(rule)
    try:
        yield
    finally:
        for rule in narrowed:
            del rule.try_rewrite


def _try_rewrite(
    operator: tuple[str, str, str],
    inner: Callable[..., Any],
    model: Any,
    graph: Any,
    node: Any,
    **options: Any,
) -> Any:
    return inner(model, graph, node, **options) if node.op_identifier() == operator else None
