"""Turns: what is done at one place comes in the order in which it was asked for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Iterator


class Turns:
  """A line of those who wait at each place; a place with no line is not kept.

  Example:
    >>> turns = Turns()
    >>> first, second = turns.take("door"), turns.take("door")
    >>> with turns.waited("door", first):
    ...   print("the first is in")
    the first is in
    >>> with turns.waited("door", second):
    ...   print("the second is in")
    the second is in
  """

  def __init__(self) -> None:
    self._changed = threading.Condition()
    self._lines: dict[Hashable, list[object]] = {}

  def take(self, place: Hashable) -> object:
    """Returns a turn behind all that were taken before; whoever takes one must leave.

    Args:
      place: where.
    """
    turn = object()
    with self._changed:
      self._lines.setdefault(place, []).append(turn)
    return turn

  @contextlib.contextmanager
  def waited(self, place: Hashable, turn: object) -> Iterator[None]:
    """Waits until all turns before have left, holds this one while a block runs, and leaves.

    Args:
      place: where.
      turn: from `take`.
    """
    try:
      with self._changed:
        self._changed.wait_for(lambda: self._lines[place][0] is turn)
      yield
    finally:
      self.leave(place, turn)

  def leave(self, place: Hashable, turn: object) -> None:
    """Gives a turn up, whether it has come or not.

    Args:
      place: where.
      turn: from `take`.
    """
    with self._changed:
      self._lines[place].remove(turn)
      if not self._lines[place]:
        del self._lines[place]
      self._changed.notify_all()
