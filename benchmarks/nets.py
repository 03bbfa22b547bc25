"""The networks that several benchmarks train or compile, with made-up images."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments import models
from experiments.training import loop
from experiments.training.augment import Augment
from experiments.training.draws import random_key
from experiments.training.step import steps_program

# (in the zoo, its arguments)
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18": ("resnet18", {}),
    "vgg": ("vgg", {}),
    "densenet": ("densenet", {"depth": 40}),
    "convnet": ("convnet", {"widths": (16, 32, 64), "hidden": (128, 64)}),
    "resnet20": ("resnet18", {"stages": (3, 3, 3), "width": 16}),
}

# As the training loop gives them to its steps: no teacher, no penalties, half a cosine.
NUMBERS = {"steps": 1e6, "first": 1e-3, "last": 1e-7, "temperature": 1.0, "alpha": 0.0,
           "l1": 0.0, "l2": 0.0, "start": 0.0}


def create(name: str, dtype: str = "float32") -> nn.Module:
  """Returns a network with ten classes.

  Args:
    name: one of `NETS`.
    dtype: of the computation.
  """
  zoo, arguments = NETS[name]
  return models.create(zoo, num_classes=10, dtype=dtype, **arguments)


def training(model: nn.Module, variables: Any, side: int, batch: int,
             steps: int) -> tuple[Any, Any, Any]:
  """Returns what the training loop calls for some steps without augmentation.

  Args:
    model: of `create`.
    variables: of the model.
    side: of the images, in pixels.
    batch: images per step.
    steps: of a call.

  Returns:
    (program, state, data); `program(state, data, NUMBERS, 0, steps)` takes the state's memory over.
  """
  # Two batches, which take turns: nothing can be computed once for all steps.
  images = np.random.default_rng(0).integers(0, 256, (2 * batch, side, side, 3), np.uint8)
  labels = np.arange(len(images), dtype=np.int32) % 10
  order = jnp.arange(batch * steps).reshape(steps, -1) % len(images)
  data = {"images": jnp.asarray(images), "labels": jnp.asarray(labels), "order": order,
          "offset": 0, "key": random_key(0)}
  return steps_program(model, Augment()), loop.start_state(variables), data
