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
    data: {"images", "labels", "order", "offset", "key", maybe "ids"}; see `input_pipeline`.
    numbers: of the training; {"epoch", "seed"} where flips alternate.
    options: augmentation.
  """
  index, key = data["order"][i - data["offset"]], jax.random.fold_in(data["key"], i)
  images = augment(key, data["images"][index], options, _flips(i, data, numbers, options))
  rest, share = jax.random.fold_in(key, 1), None
  if options.mixup:
    images, share = mixed(jax.random.fold_in(rest, 1), images, options.mixup)
  return View(images=images, labels=data["labels"][index], share=share, key=rest)


def _flips(i: Any, data: Any, numbers: Any, options: Augment) -> jax.Array | None:
  """Returns which images of a step are mirrored, where that alternates."""
  if not options.alternating:
    return None
  # What is read from disk piece by piece has other places in memory than in the data set.
  ids = data.get("ids", data["order"])[i - data["offset"]]
  return alternating_flips(ids, numbers["epoch"], numbers["seed"])
