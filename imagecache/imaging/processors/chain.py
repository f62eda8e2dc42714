"""Several processors one after the other: their common name and their beginnings."""

from __future__ import annotations

from collections.abc import Sequence

from ...protocols import ImageProcessor

_JOINED_BY = "|>"


def identifier_of(processors: Sequence[ImageProcessor]) -> str:
    """The identifier of a chain, "" for none: ``"A|>B"``, as Kingfisher joins them."""
    return _JOINED_BY.join(processor.identifier for processor in processors)


def prefixes(processors: Sequence[ImageProcessor]) -> tuple[tuple[ImageProcessor, ...], ...]:
    """Every beginning of a chain, the empty one first, the whole one last: the steps at which work can be shared."""
    return tuple(tuple(processors[:length]) for length in range(len(processors) + 1))
