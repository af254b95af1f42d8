"""The rules by which onnxscript simplifies an exported graph, tried only where they can match."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def narrow_rewrite_rules() -> None:
    """Have rules with several last nodes tried only at nodes of the first one's operator.

    Elsewhere such a rule walks the whole graph before it finds that it does not match: once for each node, which in a
    quantized network of some thousand nodes is a fifth of an export. What the rules make is the same. Reaches into
    onnxscript, and does nothing where that looks otherwise.
    """
    from onnxscript import rewriter

    for rule in getattr(rewriter, "_DEFAULT_REWRITE_RULES", ()):
        pattern = getattr(rule, "_target_pattern", None)
        several = not getattr(pattern, "has_single_output_node", True)
        last = getattr(pattern, "output_nodes", None)
        operator = last[0].op_identifier() if several and last else None
        if operator is not None and not isinstance(rule.try_rewrite, functools.partial):
            rule.try_rewrite = functools.partial(_try_rewrite, operator, rule.try_rewrite)


def _try_rewrite(
    operator: tuple[str, str, str],
    inner: Callable[..., Any],
    model: Any,
    graph: Any,
    node: Any,
    **options: Any,
) -> Any:
    return inner(model, graph, node, **options) if node.op_identifier() == operator else None
