"""What the compiled steps get: a data set on the device, or pieces of one read from disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.datasets.splits import Split
from experiments.training import devices

STEPS_PER_CALL = 50  # so that starting a call costs little, and a progress bar still moves
PIECE_BYTES = 96 << 20  # of images that are read ahead while the device works

Call = tuple[int, int, dict[str, Any]]


class InMemory:
  """A split in memory: its images are on the device once, every call picks from them.

  Attributes:
    data: {"images", "labels"}, on the devices.
  """

  def __init__(self, split: Split, on: Mesh | None):
    """Puts the split on the devices.

    Args:
      split: the images and their labels.
      on: the mesh, or None for one device.
    """
    self.on = on
    self.data = {"images": jnp.asarray(split.images), "labels": jnp.asarray(split.labels)}
    self.data = devices.everywhere(self.data, on)

  def calls(self, order: np.ndarray) -> Iterator[Call]:
    """Yields the calls of an epoch.

    Args:
      order: int, (steps, batch): the images of each step.

    Yields:
      (first, last, data): the steps of a call, and {"images", "labels", "order",
      "offset"}, where row i - offset of order says which images are of step i.
    """
    data = {**self.data, "order": devices.spread(order, self.on, 1), "offset": 0}
    for first in range(0, len(order), STEPS_PER_CALL):
      yield first, min(first + STEPS_PER_CALL, len(order)), data


class Streamed:
  """A split that is too large for memory: the next call's images are read during this one.

  Each process reads the images of its own devices, and no others.
  """

  def __init__(self, split: Any, on: Mesh | None, batch_size: int):
    """Decides how many steps a call has; nothing is read yet.

    Args:
      split: used like `splits.Split`.
      on: the mesh, or None for one device.
      batch_size: images per step.
    """
    self.split, self.on = split, on
    step_bytes = batch_size * math.prod(split.shape)
    self.steps = max(1, min(STEPS_PER_CALL, PIECE_BYTES // step_bytes))

  def calls(self, order: np.ndarray) -> Iterator[Call]:
    """Yields the calls of an epoch, as `InMemory.calls` does.

    Images are uint8, (steps, batch, height, width, channels), and labels (steps, batch), both in
    the order of the steps. The data of a call is emptied when the next one is asked for.
    """
    firsts = range(0, len(order), self.steps)
    with ThreadPoolExecutor(1) as reader:
      coming = reader.submit(self._read, order, 0)
      for first in firsts:
        data = coming.result()
        coming = reader.submit(self._read, order, first + self.steps)
        yield first, min(first + self.steps, len(order)), data
        # The caller still holds it while the next one but one is read: three would be in memory.
        data.clear()

  def _read(self, order: np.ndarray, first: int) -> dict[str, Any]:
    """Returns the data of a call; nothing after the last step."""
    index = order[first:first + self.steps]
    if not len(index):
      return {}
    shape = (self.steps, order.shape[1], *self.split.shape)
    # The last call is filled up: one shape, one compilation. No step takes what fills it.
    rows = np.pad(index, ((0, self.steps - len(index)), (0, 0)))

    def images(part: tuple[slice, ...]) -> np.ndarray:
      mine = index[:, part[1]]
      found = self.split.read(mine.ravel()).reshape(*mine.shape, *self.split.shape)
      missing = self.steps - len(found)
      return np.pad(found, ((0, missing), *[(0, 0)] * (found.ndim - 1)))

    return {"images": devices.read(images, shape, np.uint8, self.on, 1),
            "labels": devices.spread(self.split.labels[rows], self.on, 1),
            "order": devices.spread(rows, self.on, 1), "offset": first}


def of(split: Any, on: Mesh | None, batch_size: int) -> InMemory | Streamed:
  """Returns what feeds the steps with a split's images.

  Args:
    split: one in memory (`splits.Split`), or one that reads what is asked for.
    on: the mesh, or None for one device.
    batch_size: images per step.
  """
  if isinstance(split, Split):
    return InMemory(split, on)
  return Streamed(split, on, batch_size)


def order(count: int, steps: int, batch_size: int, seed: list[int]) -> np.ndarray:
  """Returns the images of each step of an epoch: permutations, one after the other.

  Args:
    count: number of images there are.
    steps: of the epoch.
    batch_size: images per step.
    seed: what the order depends on.

  Returns:
    int, (steps, batch_size).

  Example:
    >>> sorted(order(4, 2, 2, [0]).ravel().tolist())
    [0, 1, 2, 3]
  """
  needed, rng = steps * batch_size, np.random.default_rng(seed)
  passes = [rng.permutation(count) for _ in range(math.ceil(needed / count))]
  return np.concatenate(passes)[:needed].reshape(steps, batch_size)
