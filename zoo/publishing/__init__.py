"""Publishing artifacts on the Hugging Face Hub, and keeping the registry that pins them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.publishing.api import publish
    from zoo.publishing.destination import PublishRequest
    from zoo.publishing.publisher import Published
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.publishing.api": ("publish",),
            "zoo.publishing.destination": ("PublishRequest",),
            "zoo.publishing.publisher": ("Published",),
        },
    )

__all__ = ["PublishRequest", "Published", "publish"]
