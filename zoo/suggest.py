"""What a misspelt name was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable

#: Longer words are nobody's typing mistake, and matching them takes quadratic time.
_LONGEST = 80


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most similar to `word`, or None if none is similar."""
    from difflib import get_close_matches

    if len(word) > _LONGEST:
        return None
    by_lowered = {candidate.lower(): candidate for candidate in sorted(candidates, reverse=True)}
    matches = get_close_matches(word.lower(), list(by_lowered), n=1, cutoff=0.6)
    return by_lowered[matches[0]] if matches else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return ``; did you mean 'qat'?`` to append to a message, or ""."""
    match = closest(word, candidates)
    return f"; did you mean '{match}'?" if match else ""
