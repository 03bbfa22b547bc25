"""The zoo's DenseNet and ConvNet in PyTorch, channels last, and training steps of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn


def steps(net: Any, images: np.ndarray, labels: np.ndarray, batch: int,
          count: int) -> Callable[[], None]:
  """Returns a function that trains a model for some steps with Adam.

  Args:
    net: a module.
    images: uint8, (2 batch, height, width, channels).
    labels: int32, (2 batch,).
    batch: images per step.
    count: steps.
  """
  optimizer = torch.optim.Adam(net.parameters(), 1e-3)
  x = torch.tensor(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
  # The layout in which PyTorch's convolutions are fastest on a CPU.
  x = x.contiguous(memory_format=torch.channels_last)
  y = torch.tensor(labels.astype(np.int64))

  def run() -> None:
    for step in range(count):
      first = step % 2 * batch
      at = slice(first, first + batch)
      loss = nn.functional.cross_entropy(net(x[at]), y[at])
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()

  return run


def model(name: str, depth: int, side: int) -> Any:
  """Returns a zoo model in PyTorch, with ten classes.

  Args:
    name: "densenet"; any other name is the ConvNet.
    depth: of a DenseNet.
    side: of the images, in pixels.
  """
  parts = _densenet(depth) if name == "densenet" else _convnet(side)
  return nn.Sequential(*parts).to(memory_format=torch.channels_last)


def _norm(inputs: int, outputs: int, kernel: int = 3) -> Any:
  return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
                       nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _Dense(nn.Module):
  """One layer of a dense block: its output is joined to its input."""

  def __init__(self, channels: int, growth: int):
    super().__init__()
    self.layer = _norm(channels, growth)

  def forward(self, x: Any) -> Any:
    return torch.cat([x, self.layer(x)], 1)


def _densenet(depth: int) -> list[Any]:
  parts, channels = [_norm(3, 16)], 16
  for block in range(3):
    for _ in range((depth - 4) // 3):
      parts.append(_Dense(channels, 12))
      channels += 12
    if block < 2:
      parts += [_norm(channels, channels, 1), nn.AvgPool2d(2)]
  return [*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def _convnet(side: int) -> list[Any]:
  parts, channels = [], 3
  for width in (16, 32, 64):
    parts += [_norm(channels, width), nn.MaxPool2d(2)]
    channels = width
  # Three poolings halve the side three times.
  left = side // 8
  return [*parts, nn.Flatten(), nn.Linear(channels * left * left, 128, bias=False), nn.ReLU(),
          nn.Linear(128, 64, bias=False), nn.ReLU(), nn.Linear(64, 10)]
