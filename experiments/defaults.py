"""Fields of configurations that came later, and the values that leave results as they were.

A stage is found again by its specification. A field that has its value from here is left
out of it, so that what was trained before the field came is still found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAIN: dict[str, Any] = {
    "optimizer": "adam", "momentum": 0.9, "weight_decay": 0.0, "bias_learning_rate": 0.0,
    "head_learning_rate": 0.0, "rest_optimizer": "adam", "rest_momentum": 0.9,
    "newton_schulz_steps": 5, "normalize_filters": False, "schedule": "cosine", "warmup": 0.2,
    "label_smoothing": 0.0, "ema": 0.0, "views": 0}
AUGMENT: dict[str, Any] = {"alternating": False, "pad": "zero", "cutout": 0, "mixup": 0.0}
DATA: dict[str, Any] = {"side": 0}


def without(part: Any) -> Any:
  """Returns a configuration without the later fields that have their default value.

  Args:
    part: nested mappings and sequences, such as a stage's specification.

  Returns:
    The same in dictionaries and lists.

  Example:
    >>> without({"train": {"epochs": 1, "batch_size": 8, "ema": 0.0, "momentum": 0.5}})
    {'train': {'epochs': 1, 'batch_size': 8, 'momentum': 0.5}}
  """
  if isinstance(part, list | tuple):
    return [without(each) for each in part]
  if not isinstance(part, Mapping):
    return part
  later: dict[str, Any] = {}
  if "batch_size" in part:  # how something trains
    later = TRAIN
  elif "crop" in part:  # how images are augmented
    later = AUGMENT
  elif "validation" in part:  # which images
    later = DATA
  return {name: without(value) for name, value in part.items()
          if name not in later or value != later[name]}
