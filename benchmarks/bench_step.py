"""Images per second of the training step, beside PyTorch where it is installed.

python -m benchmarks.bench_step [--model=densenet] [--depth=40] [--size=32] [--batch=64]

Both train the same model in float32 with Adam on the same made-up images, in
this process, in turn; the ratio is what to look at.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks.timing import in_turns, ratios
from experiments import models
from experiments.training import loop
from experiments.training import step as step_lib
from experiments.training.augment import Augment

_MODEL = flags.DEFINE_enum("model", "densenet", sorted(models.MODELS), "The zoo model.")
_DEPTH = flags.DEFINE_integer("depth", 40, "Depth of a DenseNet.")
_SIZE = flags.DEFINE_integer("size", 32, "Side of the images.")
_BATCH = flags.DEFINE_integer("batch", 64, "Images per step.")
_STEPS = flags.DEFINE_integer("steps", 4, "Steps per measurement.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each.")

# As the training loop gives them to its steps: no teacher, no penalties, half a cosine.
_NUMBERS = {"steps": 1e6, "first": 1e-3, "last": 1e-7, "temperature": 1.0, "alpha": 0.0,
            "l1": 0.0, "l2": 0.0, "start": 0.0}


def main(_: Sequence[str]) -> None:
  """Prints images per second, and the ratio to PyTorch."""
  # Two batches, which take turns: nothing can be computed once for all steps.
  shape = (_BATCH.value * 2, _SIZE.value, _SIZE.value, 3)
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  labels = np.arange(len(images), dtype=np.int32) % 10
  runs = {"compress_jax": jax_steps(images, labels)}
  # PyTorch is no dependency of the studies.
  if importlib.util.find_spec("torch"):
    from benchmarks import bench_step_torch
    net = bench_step_torch.model(_MODEL.value, _DEPTH.value, _SIZE.value)
    runs["torch"] = bench_step_torch.steps(net, images, labels, _BATCH.value, _STEPS.value)
  else:
    print("torch is not installed: no ratio")
  _print(in_turns(runs, _REPEATS.value))


def _print(seconds: Mapping[str, list[float]]) -> None:
  count = _BATCH.value * _STEPS.value
  for name, times in seconds.items():
    print(f"{name}: {count / statistics.median(times):,.0f} images/s "
          f"({_MODEL.value}, {_SIZE.value}x{_SIZE.value}, batch {_BATCH.value})")
  if "torch" in seconds:
    print(f"ratio to torch: {ratios(seconds['torch'], seconds['compress_jax'])}")


def jax_steps(images: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
  """Returns a function that trains for some steps, as `loop.fit` does.

  Args:
    images: uint8, (count, height, width, channels).
    labels: int32, (count,).
  """
  arguments = {"depth": _DEPTH.value} if _MODEL.value == "densenet" else {}
  model = models.create(_MODEL.value, num_classes=10, **arguments)
  state = loop.start_state(loop.initial(model, images.shape[1:], 0))
  program = step_lib.steps_program(model, None, Augment())
  order = jnp.arange(_BATCH.value * _STEPS.value).reshape(_STEPS.value, -1) % len(images)
  data = {"images": jnp.asarray(images), "labels": jnp.asarray(labels), "order": order,
          "offset": 0, "key": loop.random_key(0)}

  def run() -> Any:
    # The steps take the state's memory over: every call goes on from the last one's.
    nonlocal state
    state, sums = program(state, data, _NUMBERS, None, 0, _STEPS.value)
    return sums

  return run


if __name__ == "__main__":
  app.run(main)
