"""What runs that begin with the same network would each find out again: its file, and what the file scores."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_Found = TypeVar("_Found")

#: Files of networks stay in memory with what is known.
_MOST = 8
#: Finds something out about a network unless that is known: called with what it is, and with what finds it.
Once = Callable[[Hashable, Callable[[], Any]], Any]


def find_out(what: Hashable, find: Callable[[], _Found]) -> _Found:
    """Return what `find` returns: a :data:`Once` that remembers nothing."""
    return find()


class Originals:
    """What is known of networks before any recipe, in this process; the latest few things."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Any] = OrderedDict()

    def once(self, key: Hashable, find: Callable[[], _Found]) -> _Found:
        """Return what `find` returned for an equal key, or call it.

        Args:
            key: Everything that the result depends on.
            find: What it raises is not kept.
        """
        if key not in self._known:
            self._known[key] = find()
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        found: _Found = self._known[key]
        return found

    def about(self, *network: Hashable) -> Once:
        """Return :meth:`once` for one network, by everything that tells it and its data from others."""
        return lambda what, find: self.once((network, what), find)
