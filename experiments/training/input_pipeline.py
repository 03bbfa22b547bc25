"""What the compiled steps get: a data set on the device, or pieces of one read from disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jax.sharding import Mesh

from experiments.datasets.builders import Split
from experiments.training import devices

STEPS_PER_CALL = 50
PIECE_BYTES = 96 << 20  # of images that are read ahead while the device works

Call = tuple[int, int, dict[str, Any]]


class Held:
  """A split in memory: its images are on the device once, every call picks from them."""

  def __init__(self, split: Split, on: Mesh | None):
    self.on = on
    self.data = devices.everywhere({"images": split.images, "labels": split.labels}, on)
    if on is None:
      self.data = {k: devices.spread(v, None, 0) for k, v in self.data.items()}

  def calls(self, order: np.ndarray) -> Iterator[Call]:
    """Yields the calls of an epoch.

    Args:
      order: int, (steps, batch): the images of each step.

    Yields:
      (first, last, data): the steps of a call, and {"images", "labels", "order",
      "offset"}, where row i - offset of order is of step i.
    """
    data = {**self.data, "order": devices.spread(order, self.on, 1), "offset": 0}
    for first in range(0, len(order), STEPS_PER_CALL):
      yield first, min(first + STEPS_PER_CALL, len(order)), data


class Streamed:
  """A split that is too large for memory: the next call's images are read during this one."""

  def __init__(self, split: Any, on: Mesh | None, batch_size: int):
    self.split, self.on = split, on
    each = batch_size * math.prod(split.shape)
    self.steps = max(1, min(STEPS_PER_CALL, PIECE_BYTES // each))

  def calls(self, order: np.ndarray) -> Iterator[Call]:
    """Yields the calls of an epoch, as `Held.calls` does."""
    firsts = range(0, len(order), self.steps)
    with ThreadPoolExecutor(1) as reader:
      coming = reader.submit(self._read, order, 0)
      for first in firsts:
        data = coming.result()
        coming = reader.submit(self._read, order, first + self.steps)
        yield first, min(first + self.steps, len(order)), data

  def _read(self, order: np.ndarray, first: int) -> dict[str, Any]:
    """Returns the data of a call; the last is filled up, so that all have one shape."""
    index = order[first:first + self.steps]
    rows = np.resize(np.arange(index.size), (self.steps, order.shape[1]))
    data = {"images": self.split.read(index.ravel()), "labels": self.split.labels[index.ravel()]}
    missing = rows.size - index.size
    if missing and index.size:
      data = {k: np.concatenate([v, np.repeat(v[:1], missing, 0)]) for k, v in data.items()}
    return {**devices.everywhere(data, self.on), "order": devices.spread(rows, self.on, 1),
            "offset": first}


def of(split: Any, on: Mesh | None, batch_size: int) -> Held | Streamed:
  """Returns the feed that suits a split."""
  return Held(split, on) if isinstance(split, Split) else Streamed(split, on, batch_size)


def order(count: int, steps: int, batch_size: int, seed: list[int]) -> np.ndarray:
  """Returns the images of each step of an epoch: permutations, one after the other.

  Args:
    count: images there are.
    steps: of the epoch.
    batch_size: images a step.
    seed: what the order depends on.

  Returns:
    int, (steps, batch_size).

  Example:
    >>> sorted(order(4, 2, 2, [0]).ravel().tolist())
    [0, 1, 2, 3]
  """
  needed, rng = steps * batch_size, np.random.default_rng(seed)
  passes = [rng.permutation(count) for _ in range(-(-needed // count))]
  return np.concatenate(passes)[:needed].reshape(steps, batch_size)
