"""The priority of something that waits, while it may still change. No queue of its own; a queue listens to it."""

from __future__ import annotations

from collections.abc import Callable

from ..request import Priority


class PriorityTicket:
    """A priority that may be raised or lowered while its download waits for a slot.

    Whoever owns it sets :attr:`priority`; the queue that it stands in moves it at once.
    """

    __slots__ = ("_moved", "_priority")

    def __init__(self, priority: Priority = Priority.NORMAL) -> None:
        self._priority = priority
        self._moved: Callable[[], None] | None = None

    @property
    def priority(self) -> Priority:
        return self._priority

    @priority.setter
    def priority(self, priority: Priority) -> None:
        if priority is not self._priority:
            self._priority = priority
            if self._moved is not None:
                self._moved()

    def listen(self, moved: Callable[[], None] | None) -> None:
        """Call ``moved`` when the priority changes; None ends that."""
        self._moved = moved
