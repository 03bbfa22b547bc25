"""Recipes of training as the configuration describes them."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import defaults
from experiments.reporting import places
from experiments.training import devices
from experiments.training.augment import Augment
from experiments.training.optimizers import Optimizer
from experiments.training.recipe import Recipe


def recipe(train: Any, augment: Any, *, seed: int, field: str, fsdp: int = 1) -> Recipe:
  """Returns how a part of a configuration trains.

  Args:
    train: as `configs.common.train` makes it; what it lacks of `defaults.TRAIN` has the
      value from there.
    augment: `config.data.augment`.
    seed: of the order of the images and of the augmentation.
    field: the learning rate's, for messages.
    fsdp: devices that share the parameters.

  Example:
    >>> train = ConfigDict({"epochs": 2, "batch_size": 8, "steps_per_epoch": 0,
    ...                     "learning_rate": 0.1, "final_learning_rate": 0.0, "optimizer": "sgd"})
    >>> recipe(train, ConfigDict({"flip": True}), seed=0, field="").optimizer.kind
    'sgd'
  """
  t = ConfigDict({**defaults.TRAIN, "l1": 0.0, "l2": 0.0, **train})
  return Recipe(epochs=t.epochs, batch_size=t.batch_size, steps_per_epoch=t.steps_per_epoch or None,
                learning_rate=t.learning_rate, final_learning_rate=t.final_learning_rate,
                schedule=t.schedule, warmup=t.warmup, optimizer=optimizer(t), ema=t.ema,
                label_smoothing=t.label_smoothing, l1=t.l1, l2=t.l2, seed=seed, views=t.views,
                field=field, fsdp=fsdp, augment=Augment(**augment.to_dict()))


def optimizer(train: Any) -> Optimizer:
  """Returns the optimizer that a part of a configuration trains with.

  Args:
    train: has all fields of `defaults.TRAIN`.
  """
  return Optimizer(kind=train.optimizer, momentum=train.momentum, weight_decay=train.weight_decay,
                   bias_learning_rate=train.bias_learning_rate,
                   head_learning_rate=train.head_learning_rate, rest=train.rest_optimizer,
                   rest_momentum=train.rest_momentum, normalize_filters=train.normalize_filters,
                   newton_schulz_steps=train.newton_schulz_steps)


def on_this_machine(config: ConfigDict, workdir: Path | None = None, *,
                    keep: bool = False) -> ConfigDict:
  """Returns a configuration with the precision that is fast here, where it says "auto".

  Where a workdir has noted a precision, it is that one: stages of different precisions are
  different stages, and all machines that work there must have the same.

  Args:
    config: of a study.
    workdir: of the study, if there is one.
    keep: whether to note the precision there, where none is noted.

  Raises:
    ValueError: what is noted is no precision.

  Example:
    >>> on_this_machine(ConfigDict({"compute_dtype": "float32"})).compute_dtype
    'float32'
  """
  made = config.copy_and_resolve_references()
  with made.unlocked():
    made.compute_dtype = devices.compute_dtype(config.compute_dtype)
    if config.compute_dtype == "auto" and workdir is not None:
      made.compute_dtype = _noted(workdir / places.DTYPE, made.compute_dtype, keep)
  return made


def _noted(file: Path, dtype: str, keep: bool) -> str:
  """Returns the precision that a file has, or `dtype`, after noting it if that is asked for."""
  if keep:
    # The first of several processes decides.
    with contextlib.suppress(FileExistsError), file.open("x") as new:
      new.write(dtype)
  for _ in range(20):
    if not file.exists():
      return dtype
    found = file.read_text()
    if found in ("float32", "bfloat16"):
      return found
    time.sleep(0.1)  # it is being written
  raise ValueError(f"{file}: {found!r} must be float32 or bfloat16; remove it to choose anew")
