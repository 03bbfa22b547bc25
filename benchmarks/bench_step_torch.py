"""The models of `bench_step` in PyTorch, for `torch_process`; it imports no JAX.

Arguments are NAME SIZE BATCH STEPS. Reads a dtype per line, trains for so many steps in it, and
answers "done".
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.torch_process import DTYPES


def main(name: str, side: int, batch: int, count: int) -> None:
  """Answers the lines of standard input.

  Args:
    name: of a model.
    side: of the images, in pixels.
    batch: images per step.
    count: steps of one measurement.
  """
  images = np.random.default_rng(0).integers(0, 256, (2 * batch, side, side, 3), np.uint8)
  labels = np.arange(len(images), dtype=np.int32) % 10
  runs = {dtype: steps(model(name, side), images, labels, batch, count, dtype)
          for dtype in DTYPES}
  for line in sys.stdin:
    runs[line.strip()]()
    print("done", flush=True)


def steps(net: Any, images: np.ndarray, labels: np.ndarray, batch: int, count: int,
          dtype: str) -> Callable[[], None]:
  """Returns a function that trains a model for some steps with Adam.

  Args:
    net: a module.
    images: uint8, (2 batch, height, width, channels).
    labels: int32, (2 batch,).
    batch: images per step.
    count: steps.
    dtype: "float32", or "bfloat16" by autocast.
  """
  optimizer = torch.optim.Adam(net.parameters(), 1e-3)
  x = torch.tensor(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
  # The layout in which PyTorch's convolutions are fastest on a CPU.
  x = x.contiguous(memory_format=torch.channels_last)
  y = torch.tensor(labels.astype(np.int64))

  def precision() -> Any:
    if dtype == "float32":
      return contextlib.nullcontext()
    return torch.autocast("cpu", dtype=torch.bfloat16)

  def run() -> None:
    for step in range(count):
      first = step % 2 * batch
      at = slice(first, first + batch)
      with precision():
        loss = nn.functional.cross_entropy(net(x[at]), y[at])
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()

  return run


def model(name: str, side: int) -> Any:
  """Returns a model of `nets.NETS` in PyTorch, with ten classes.

  Args:
    name: in `NETS`.
    side: of the images, in pixels.
  """
  made = {"resnet18": lambda: _resnet((2, 2, 2, 2), 64),
          "resnet20": lambda: _resnet((3, 3, 3), 16), "vgg": lambda: _vgg(side),
          "densenet": lambda: _densenet(40), "convnet": lambda: _convnet(side)}
  return nn.Sequential(*made[name]()).to(memory_format=torch.channels_last)


def _norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[Any]:
  return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
          nn.BatchNorm2d(outputs)]


def _layer(inputs: int, outputs: int, kernel: int = 3) -> Any:
  return nn.Sequential(*_norm(inputs, outputs, kernel), nn.ReLU(inplace=True))


class _Block(nn.Module):
  """Two convolutions beside a shortcut."""

  def __init__(self, inputs: int, outputs: int, stride: int):
    super().__init__()
    self.body = nn.Sequential(*_norm(inputs, outputs, 3, stride), nn.ReLU(inplace=True),
                              *_norm(outputs, outputs))
    same = inputs == outputs and stride == 1
    self.shortcut = nn.Identity() if same else nn.Sequential(*_norm(inputs, outputs, 1, stride))

  def forward(self, x: Any) -> Any:
    return nn.functional.relu(self.body(x) + self.shortcut(x))


def _resnet(stages: tuple[int, ...], width: int) -> list[Any]:
  parts, channels = [_layer(3, width)], width
  for i, blocks in enumerate(stages):
    for j in range(blocks):
      stride = 2 if i > 0 and j == 0 else 1
      parts.append(_Block(channels, width * 2**i, stride))
      channels = width * 2**i
  return [*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def _vgg(side: int) -> list[Any]:
  parts, channels = [], 3
  for group in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
    for width in group:
      parts.append(_layer(channels, width))
      channels = width
    parts.append(nn.MaxPool2d(2))
  # Five poolings.
  left = side // 32
  return [*parts, nn.Flatten(), nn.Linear(channels * left * left, 10)]


class _Dense(nn.Module):
  """One layer of a dense block: its output is joined to its input."""

  def __init__(self, channels: int, growth: int):
    super().__init__()
    self.layer = _layer(channels, growth)

  def forward(self, x: Any) -> Any:
    return torch.cat([x, self.layer(x)], 1)


def _densenet(depth: int) -> list[Any]:
  parts, channels = [_layer(3, 16)], 16
  for block in range(3):
    for _ in range((depth - 4) // 3):
      parts.append(_Dense(channels, 12))
      channels += 12
    if block < 2:
      parts += [_layer(channels, channels, 1), nn.AvgPool2d(2)]
  return [*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def _convnet(side: int) -> list[Any]:
  parts, channels = [], 3
  for width in (16, 32, 64):
    parts += [_layer(channels, width), nn.MaxPool2d(2)]
    channels = width
  # Three poolings halve the side three times.
  left = side // 8
  return [*parts, nn.Flatten(), nn.Linear(channels * left * left, 128, bias=False), nn.ReLU(),
          nn.Linear(128, 64, bias=False), nn.ReLU(), nn.Linear(64, 10)]


if __name__ == "__main__":
  main(sys.argv[1], *map(int, sys.argv[2:]))
