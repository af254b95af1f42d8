"""Finding the best recipes of a space under a budget: what nothing beats in score, size, latency, memory and MACs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.search.api import preview, search
    from zoo.search.search_request import SearchRequest
    from zoo.search.search_result import SearchResult
    from zoo.search.space import Space
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.search.api": ("preview", "search"),
            "zoo.search.search_request": ("SearchRequest",),
            "zoo.search.search_result": ("SearchResult",),
            "zoo.search.space": ("Space",),
        },
    )

__all__ = ["SearchRequest", "SearchResult", "Space", "preview", "search"]
