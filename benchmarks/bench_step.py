"""Images per second of the training step, beside PyTorch where it is installed.

python -m benchmarks.bench_step [--model=densenet] [--depth=40] [--size=32] [--batch=64]

Both train the same model in float32 with Adam on the same made-up images, in
this process, in turn; the ratio is what to look at.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments import models
from experiments.training import loop
from experiments.training import step as step_lib
from experiments.training.augment import Augment

_MODEL = flags.DEFINE_enum("model", "densenet", sorted(models.MODELS), "The zoo model.")
_DEPTH = flags.DEFINE_integer("depth", 40, "Depth of a DenseNet.")
_SIZE = flags.DEFINE_integer("size", 32, "Side of the images.")
_BATCH = flags.DEFINE_integer("batch", 64, "Images a step.")
_STEPS = flags.DEFINE_integer("steps", 4, "Steps a measurement.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each.")


def main(_) -> None:
  shape = (_BATCH.value * 2, _SIZE.value, _SIZE.value, 3)
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  labels = np.arange(len(images), dtype=np.int32) % 10
  arguments = {"depth": _DEPTH.value} if _MODEL.value == "densenet" else {}
  runs = {"compress_jax": _jax_steps(arguments, images, labels)}
  try:
    import torch
    runs["torch"] = _torch_steps(torch, images, labels)
  except ImportError:
    print("torch is not installed: no ratio")
  seconds = {name: [] for name in runs}
  for run in runs.values():
    run()  # compile, warm up
  for _ in range(_REPEATS.value):
    for name, run in runs.items():
      start = time.perf_counter()
      run()
      seconds[name].append(time.perf_counter() - start)
  count = _BATCH.value * _STEPS.value
  for name, times in seconds.items():
    print(f"{name}: {count / statistics.median(times):,.0f} images/s "
          f"({_MODEL.value}, {_SIZE.value}x{_SIZE.value}, batch {_BATCH.value})")
  if "torch" in seconds:
    ratios = [b / a for a, b in zip(seconds["compress_jax"], seconds["torch"], strict=True)]
    print(f"ratio to torch: {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f})")


def _jax_steps(arguments, images, labels):
  """Returns a function that trains for some steps, as `loop.fit` does."""
  model = models.create(_MODEL.value, num_classes=10, **arguments)
  variables = loop.initial(model, images.shape[1:], 0)
  state = loop.start_state(variables)
  program = step_lib.steps_program(model, None, Augment())
  order = jnp.arange(_BATCH.value * _STEPS.value).reshape(_STEPS.value, -1) % len(images)
  data = {"images": jnp.asarray(images), "labels": jnp.asarray(labels), "order": order,
          "offset": 0, "key": loop.random_key(0)}
  numbers = {"steps": 1e6, "first": 1e-3, "last": 1e-7, "temperature": 1.0, "alpha": 0.0,
             "l1": 0.0, "l2": 0.0, "start": 0.0}
  kept = [state]

  def run():
    kept[0], sums = program(kept[0], data, numbers, None, 0, _STEPS.value)
    jax.block_until_ready(sums)
  return run


def _torch_steps(torch, images, labels):
  """Returns a function that trains the same model in PyTorch for some steps."""
  net = _torch_model(torch)
  optimizer = torch.optim.Adam(net.parameters(), 1e-3)
  x = torch.tensor(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
  x = x.contiguous(memory_format=torch.channels_last)
  y = torch.tensor(labels.astype(np.int64))

  def run():
    for step in range(_STEPS.value):
      at = slice(step % 2 * _BATCH.value, (step % 2 + 1) * _BATCH.value)
      loss = torch.nn.functional.cross_entropy(net(x[at]), y[at])
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()
  return run


def _torch_model(torch):
  """Returns the zoo model in PyTorch, channels last."""
  nn = torch.nn
  norm = lambda i, o, k=3: nn.Sequential(nn.Conv2d(i, o, k, padding=k // 2, bias=False),
                                         nn.BatchNorm2d(o), nn.ReLU(inplace=True))

  class Dense(nn.Module):
    """One layer of a dense block: its output is joined to its input."""

    def __init__(self, channels, growth):
      super().__init__()
      self.layer = norm(channels, growth)

    def forward(self, x):
      return torch.cat([x, self.layer(x)], 1)

  if _MODEL.value == "densenet":
    parts, channels = [norm(3, 16)], 16
    for block in range(3):
      for _ in range((_DEPTH.value - 4) // 3):
        parts.append(Dense(channels, 12))
        channels += 12
      if block < 2:
        parts += [norm(channels, channels, 1), nn.AvgPool2d(2)]
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
  else:
    side = _SIZE.value // 8
    parts = [*norm(3, 16), nn.MaxPool2d(2), *norm(16, 32), nn.MaxPool2d(2), *norm(32, 64),
             nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * side * side, 128, bias=False), nn.ReLU(),
             nn.Linear(128, 64, bias=False), nn.ReLU(), nn.Linear(64, 10)]
  return nn.Sequential(*parts).to(memory_format=torch.channels_last)


if __name__ == "__main__":
  app.run(main)
