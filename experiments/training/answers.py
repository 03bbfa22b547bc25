"""A teacher's logits for the views of every step: computed once, for all students.

Students that train by one recipe see the same views in the same order, so that what their
teacher says of them is the same too. A large teacher costs more than a small student.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.training.augment import Augment
from experiments.training.views import view

MOST_BYTES = 256 << 20  # 140 epochs of CIFAR-10


class Answers:
  """Logits of teachers by epoch, kept for the next student while there is room.

  Attributes:
    most: bytes that are kept; what does not fit is computed again.
    kept: {whose and which epoch's: float32 (steps, batch, classes)}.
  """

  def __init__(self, most: int = MOST_BYTES):
    """Keeps nothing yet.

    Args:
      most: bytes to keep; 0 keeps nothing.
    """
    self.most, self.kept = most, {}

  def keep(self, key: Hashable, logits: np.ndarray) -> None:
    """Keeps an epoch's logits, where there is room.

    Args:
      key: says all that the logits depend on.
      logits: float32, (steps, batch, classes).
    """
    if logits.nbytes <= self.room:
      self.kept[key] = logits

  @property
  def room(self) -> int:
    """Bytes that can still be kept."""
    return self.most - sum(x.nbytes for x in self.kept.values())


class Asked:
  """A teacher that is asked about the steps of one epoch."""

  def __init__(self, answers: Answers, key: Hashable, program: Any):
    """Looks whether the epoch's logits are known.

    Args:
      answers: what is known, and where it is kept.
      key: says all that the logits depend on.
      program: (data, first, last) -> logits, float32, of the rows of data["order"]; those
        from `first` to `last` are right.
    """
    self.answers, self.key, self.program = answers, key, program
    self.known, self.pieces, self.size = answers.kept.get(key), [], 0

  def about(self, data: Any, first: int, last: int) -> np.ndarray | jax.Array:
    """Returns the logits of a call's steps.

    Args:
      data: of the call; see `input_pipeline`.
      first: the call's first step.
      last: the step behind its last one.

    Returns:
      float32, (rows of data["order"], batch, classes): row i - offset is of step i.
    """
    offset = data["offset"]
    if self.known is None:
      logits = self.program(data, first, last)
      if not logits.is_fully_addressable:
        return logits  # of several processes: each has its part, and nothing is kept
      logits = np.asarray(logits)
      # Copies: a part of an array keeps the whole of it in memory.
      self.pieces.append(logits[first - offset:last - offset].copy())
      self.size += self.pieces[-1].nbytes
      if self.size > self.answers.room:
        self.pieces.clear()
      return logits
    piece = self.known[offset:offset + len(data["order"])]
    # The last call has rows that no step takes: one shape, one compilation.
    missing = len(data["order"]) - len(piece)
    return np.pad(piece, ((0, missing), (0, 0), (0, 0)))

  def keep(self) -> None:
    """Keeps what was computed, after the epoch's last step."""
    if self.pieces:
      self.answers.keep(self.key, np.concatenate(self.pieces))


def digest(variables: Any) -> str:
  """Returns what tells a model's variables from others: a hash of their bytes.

  Args:
    variables: a pytree of arrays.

  Example:
    >>> digest({"a": jnp.ones(2)}) == digest({"a": jnp.zeros(2)})
    False
  """
  made = hashlib.sha256()
  for path, x in jax.tree_util.tree_leaves_with_path(variables):
    made.update(f"{path} {x.shape} {x.dtype}".encode() + np.asarray(x).tobytes())
  return made.hexdigest()


@functools.lru_cache(maxsize=8)
def program(model: nn.Module, options: Augment) -> Any:
  """Returns the compiled function that asks a teacher about some steps.

  Args:
    model: the teacher.
    options: augmentation.

  Returns:
    run(variables, data, numbers, first, last) -> float32 logits of the rows of data["order"];
    those of other steps than `first` to `last` are 0.
  """
  # Cached, because `jax.jit` compiles again for every new function.
  @jax.jit
  def run(variables: Any, data: Any, numbers: Any, first: Any, last: Any) -> jax.Array:
    def answer(i: Any) -> jax.Array:
      images = view(i, data, numbers, options).images
      return model.apply(variables, images, train=False).astype(jnp.float32)

    shape = jax.eval_shape(answer, jnp.int32(0)).shape
    start = jnp.zeros((len(data["order"]), *shape), jnp.float32)
    return jax.lax.fori_loop(
        first, last, lambda i, out: out.at[i - data["offset"]].set(answer(i)), start)

  return run
