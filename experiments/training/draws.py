"""What chance decides in a training: which images each step has, and how they are augmented."""

from __future__ import annotations

import dataclasses
import zlib

import jax
import numpy as np

from experiments.training import input_pipeline


def random_key(seed: int) -> jax.Array:
  """Returns a key of the generator that compiles fastest.

  At LLVM's third level, XLA's default, a single kernel of 12 channels takes 8 s to compile with
  JAX's own generator, threefry, and DenseNet-40's initialization over four minutes, in place of
  10 to 24 s (2 Zen 3 cores, JAX 0.12.0; `benchmarks/bench_compile.py`). At the second level, at
  which the tests compile, both are fast.

  Args:
    seed: any integer.
  """
  return jax.random.key(seed, impl="rbg")


@dataclasses.dataclass(frozen=True)
class Draws:
  """The order and the augmentation of a training's images, epoch by epoch.

  Attributes:
    seed: the study's.
    stream: names a training that goes on from a trained model. Without a stream of its own it
      would begin with the images of the first training, in the same order and augmented alike,
      and rounds of an epoch each would see one data set that never changes. Trainings from
      scratch have none, so that a teacher answers once for all students.

  Example:
    >>> Draws(0).order(64, 2, 8, 0).tolist() == Draws(0, "pruned").order(64, 2, 8, 0).tolist()
    False
  """

  seed: int
  stream: str = ""

  def key(self, epoch: int) -> jax.Array:
    """Returns the key of an epoch's augmentation.

    Args:
      epoch: from 0.
    """
    key = random_key(self.seed)
    for number in (*self._named, epoch):
      key = jax.random.fold_in(key, number)
    return key

  def order(self, count: int, steps: int, batch_size: int, epoch: int) -> np.ndarray:
    """Returns the images of each step of an epoch; see `input_pipeline.order`.

    Args:
      count: number of images there are.
      steps: of the epoch.
      batch_size: images per step.
      epoch: from 0.
    """
    return input_pipeline.order(count, steps, batch_size, [self.seed, *self._named, epoch])

  @property
  def flips(self) -> int:
    """Seed of which images are mirrored first, where that alternates."""
    return _number(f"{self.seed} {self.stream}") if self.stream else self.seed

  @property
  def _named(self) -> tuple[int, ...]:
    return (_number(self.stream),) if self.stream else ()


def _number(text: str) -> int:
  """Returns a number of 31 bits, the same in every process."""
  return zlib.crc32(text.encode()) >> 1
