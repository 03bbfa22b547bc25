"""Students that vote."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

import compress_jax as cj
from experiments.models.students import Student


class Ensemble(nn.Module):
  """The mean of several students' probabilities, as logits.

  Attributes:
    num_classes: length of the logits.
    members: arguments of each `Student`, as pairs; their variables are member0, member1, ….
    dtype: of the computation.
  """

  num_classes: int
  members: tuple[tuple[tuple[str, Any], ...], ...] = ((), (), ())
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    logits = []
    for i, arguments in enumerate(self.members):
      # Pairs, because a module's fields must be hashable.
      fields = {**dict(arguments), "dtype": self.dtype}
      logits.append(Student(self.num_classes, **fields, name=f"member{i}")(x, train))
    return cj.distill.average(jnp.stack(logits))
