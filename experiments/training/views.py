"""What a step sees of the images: a student and its teacher see the same view."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from experiments.training.augment import Augment, alternating_flips, augment, mixed


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
  """The images of one step, augmented.

  Attributes:
    images: float32, (batch, height, width, channels).
    labels: integers, (batch,).
    share: each image's own share of its label (mixup), or None.
    key: a PRNG key for what else is random in the step.
  """

  images: jax.Array
  labels: jax.Array
  share: jax.Array | None
  key: jax.Array


def view(i: Any, data: Any, numbers: Any, options: Augment) -> View:
  """Returns what a step sees.

  Args:
    i: the step's number in its epoch.
    data: {"images", "labels", "order", "offset", "key"}; see `input_pipeline`.
    numbers: of the training; {"epoch", "seed"} where flips alternate.
    options: augmentation.
  """
  ids, images, labels = _batch(i, data)
  # Each folded in by itself, not split: a key that nothing uses is not compiled.
  changing, mixing, rest = (jax.random.fold_in(data["key"], 3 * i + part) for part in range(3))
  images = augment(changing, images, options, _flips(ids, numbers, options))
  share = None
  if options.mixup:
    images, share = mixed(mixing, images, options.mixup)
  return View(images=images, labels=labels, share=share, key=rest)


def _batch(i: Any, data: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns which images of the data set a step has, they themselves, and their labels."""
  row = i - data["offset"]
  ids, images, labels = data["order"][row], data["images"], data["labels"]
  if images.ndim == 4:
    return ids, images[ids], labels[ids]
  # Read from disk in the order of the steps.
  return ids, images[row], labels[row]


def _flips(ids: jax.Array, numbers: Any, options: Augment) -> jax.Array | None:
  """Returns which images of a step are mirrored, where that alternates."""
  if not options.alternating:
    return None
  return alternating_flips(ids, numbers["epoch"], numbers["seed"])
