"""The networks that several benchmarks train or compile, with made-up images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import compress_jax as cj
from experiments import models
from experiments.training import loop
from experiments.training.augment import Augment
from experiments.training.draws import random_key
from experiments.training.step import steps_program
from experiments.training.techniques import quantizing
from experiments.training.techniques.trained import Trained

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


def folded(name: str, variables: Any) -> tuple[nn.Module, Any]:
  """Returns (model, parameters) of a network whose norms are folded, as runtimes do by themselves.

  Args:
    name: one of `NETS`.
    variables: of the network.
  """
  zoo, arguments = NETS[name]
  without = quantizing.without_norms(Trained(name=zoo, arguments=arguments, num_classes=10,
                                             variables=variables))
  return without.model, without.params


def integers(model: nn.Module, params: Any, images: jax.Array) -> Any:
  """Returns the parameters in 8 bits, frozen, with calibrated inputs.

  Args:
    model: of `folded`.
    params: of the model.
    images: float32, that it is calibrated on.
  """
  return cj.freeze(cj.quantize.calibrate(apply_of(model), cj.quantize.affine(params, 8), [images]))


def apply_of(model: nn.Module) -> Callable[[Any, jax.Array], jax.Array]:
  """Returns what evaluates a model without batch statistics, given parameters and images."""
  return functools.partial(_apply, model)


def _apply(model: nn.Module, params: Any, images: jax.Array) -> jax.Array:
  return model.apply({"params": params}, images, train=False)
