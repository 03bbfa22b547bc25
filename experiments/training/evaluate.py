"""Predictions and accuracy of a model on a split."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import compress_jax as cj
from experiments.training import devices
from experiments.training.augment import normalize

BATCH = 256  # images per call


def logits_program(model: nn.Module, lifted: bool = False,
                   exact: bool = True) -> Callable[[Any, Any], jax.Array]:
  """Returns the compiled function (variables, uint8 images) -> logits.

  Args:
    model: a zoo model.
    lifted: whether compressed leaves run by `cj.lift`'s rules (integers, thin
      products); if not, variables are dense arrays.
    exact: whether fake-quantized sums are the integers' to the bit; see `cj.lift`.

  Returns:
    A function; float32 logits, (batch, classes).
  """
  # However the arguments are given: a cache takes `f(x)` and `f(x=x)` for two.
  return _logits_program(model, lifted, exact)


# Cached, because `jax.jit` compiles again for every new function.
@functools.lru_cache(maxsize=64)
def _logits_program(model: nn.Module, lifted: bool, exact: bool) -> Any:
  """Does what `logits_program` says."""
  def apply(variables: Any, images: jax.Array) -> jax.Array:
    return model.apply(variables, normalize(images), train=False)
  return jax.jit(cj.lift(apply, exact=exact) if lifted else apply)


def logits(model: nn.Module, variables: Any, split: Any, lifted: bool = False,
           exact: bool = True) -> np.ndarray:
  """Returns the logits of a split's images, computed on all local devices.

  Args:
    model: a zoo model.
    variables: {"params", maybe "batch_stats"}, with or without leaves.
    split: the images; see `splits.Split`.
    lifted: see `logits_program`; if not, leaves are made dense first, so that one
      program serves them all.
    exact: see `logits_program`.

  Returns:
    float32, (count, classes).
  """
  program = logits_program(model, lifted, exact)
  if not lifted:
    variables = _dense(variables)
  # Each process for itself, where several train together: its own devices see all images.
  on = devices.mesh(BATCH, own=True)
  outs = []
  variables = devices.everywhere(variables, on)
  for first in range(0, len(split), BATCH):
    # The last batch is filled up: one shape, one compilation.
    index = np.minimum(np.arange(first, first + BATCH), len(split) - 1)
    outs.append(program(variables, devices.spread(split.read(index), on, 0)))
  return np.concatenate(outs)[:len(split)]


_dense = jax.jit(cj.dense)


def accuracy(model: nn.Module, variables: Any, split: Any, lifted: bool = False) -> float:
  """Returns the fraction of a split's images whose largest logit is the label's.

  Args:
    model: a zoo model.
    variables: {"params", maybe "batch_stats"}, with or without leaves.
    split: the images; see `splits.Split`.
    lifted: see `logits_program`.
  """
  return loss_and_accuracy(model, variables, split, lifted)[1]


def loss_and_accuracy(model: nn.Module, variables: Any, split: Any, lifted: bool = False,
                      exact: bool = True) -> tuple[float, float]:
  """Returns the mean cross-entropy on a split's labels, in nats, and the accuracy, 0 to 1.

  Args:
    model: a zoo model.
    variables: {"params", maybe "batch_stats"}, with or without leaves.
    split: the images; see `splits.Split`.
    lifted: see `logits_program`.
    exact: see `logits_program`.
  """
  out = logits(model, variables, split, lifted, exact)
  loss = cj.distill.cross_entropy(jnp.asarray(out), jnp.asarray(split.labels))
  return float(loss), float((out.argmax(-1) == split.labels).mean())
