"""What a data set consists of: three splits, each of images and their labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
  """Images in memory, and their labels.

  Attributes:
    images: uint8, (count, height, width, channels).
    labels: int32, (count,).
  """

  images: np.ndarray
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)

  @property
  def shape(self) -> tuple[int, ...]:
    """(height, width, channels) of an image."""
    return self.images.shape[1:]

  def read(self, index: Any) -> np.ndarray:
    """Returns images.

    Args:
      index: a slice or integers.

    Returns:
      uint8, (count, height, width, channels).
    """
    return self.images[index]

  def take(self, index: np.ndarray) -> Split:
    """Returns the split that has only some examples.

    Args:
      index: integers.
    """
    return Split(images=self.images[index], labels=self.labels[index])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """A data set.

  A split is a `Split`, or something else with its attributes and methods, such as
  `folder.Files`, which reads images from disk when they are asked for.

  Attributes:
    train: the images that models are trained on.
    validation: held out of the training set; models are selected on it.
    test: only reported.
    num_classes: labels are integers from 0 to below it.
    classes: their names where a user may have others, as in a folder; empty elsewhere.
  """

  train: Any
  validation: Any
  test: Any
  num_classes: int
  classes: Sequence[str] = ()


def hold_out(count: int, *, validation: float, seed: int,
             limit: int | None) -> tuple[np.ndarray, np.ndarray]:
  """Chooses which training images are held out for validation.

  Args:
    count: number of training images.
    validation: fraction of the images in use to hold out, above 0 and below 1.
    seed: of the choice.
    limit: use only so many images; None is all.

  Returns:
    int, two arrays: the images to train on, and those held out.

  Raises:
    ValueError: no images would be left to train on, or none held out.

  Example:
    >>> train, held = hold_out(10, validation=0.2, seed=0, limit=None)
    >>> len(train), len(held), sorted([*train, *held]) == list(range(10))
    (8, 2, True)
  """
  # A limit comes first, so that the fraction is of the images in use.
  order = shuffled(count, seed=seed, limit=limit)
  held = round(validation * len(order))
  if not 0 < held < len(order):
    raise ValueError(f"data.validation={validation}: must be above 0 and below 1, and must leave "
                     f"images on both sides of {len(order)}")
  return order[held:], order[:held]


def shuffled(count: int, *, seed: int, limit: int | None) -> np.ndarray:
  """Returns the integers below `count` in random order.

  Args:
    count: number of images.
    seed: of the order.
    limit: return only so many; None is all.
  """
  return np.random.default_rng(seed).permutation(count)[:limit]
