"""Pieces that the files in `configs/` are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments import defaults

_NO_AUGMENTATION = {"crop": 0, "flip": False, "rotate": 0.0, "jitter": 0.0, **defaults.AUGMENT}

Budget = Callable[[ConfigDict], None]


def common(function: str, data: Mapping[str, Any]) -> ConfigDict:
  """Returns the fields that every study has.

  Args:
    function: what runs the study, "module.function".
    data: name, validation, limit, side (of a folder's images, in pixels); augmentation is
      off where nothing is said.

  Returns:
    study, data, seed, seeds, mesh, compute_dtype, combo.

  Example:
    >>> common("experiments.studies.combo.study.run", {"name": "digits"}).seeds
    1
  """
  augment = {**_NO_AUGMENTATION, **data.get("augment", {})}
  return ConfigDict({
      "study": function,
      "data": {"validation": 0.1, "limit": 0, **defaults.DATA, **data, "augment": augment},
      "seed": 0,
      "seeds": 1,
      "mesh": {"fsdp": 1},  # devices that share the parameters; 0 is all
      "compute_dtype": "auto",  # bfloat16 where the device is fast at it, else float32
      "combo": False,  # also the sixteen combinations, on this study's model
  })


def train(epochs: int, **changes: Any) -> ConfigDict:
  """Returns how to train: Adam, batches of 128, half a cosine, unless something else is said.

  Args:
    epochs: at most so many.
    **changes: other values of the fields: batch_size, steps_per_epoch (0 is a pass
      over the data), learning_rate, final_learning_rate, l1, l2, and those of
      `defaults.TRAIN`, which `training.recipe` and `training.optimizers` explain.
  """
  return ConfigDict({"epochs": epochs, "batch_size": 128, "steps_per_epoch": 0,
                     "learning_rate": 1e-3, "final_learning_rate": 1e-7, **defaults.TRAIN,
                     **changes})


def muon(epochs: int, batch: int = 500, *, rate: float = 0.16) -> ConfigDict:
  """Returns how to train a network of normed convolutions in few epochs.

  Muon on normalized filters, Adam for biases, norms and the head, everything linear to 0.

  Args:
    epochs: at most so many.
    batch: images per step.
    rate: Muon's learning rate at the first step.

  Source: after airbench94_muon (Jordan 2024, https://github.com/KellerJordan/cifar10-airbench),
  whose rates of SGD for the rest are made for its network: `configs/airnet.py` has them.
  """
  return train(
      epochs, batch_size=batch, schedule="linear", final_learning_rate=0.0, label_smoothing=0.1,
      optimizer="muon", learning_rate=rate, momentum=0.6, newton_schulz_steps=3,
      normalize_filters=True, bias_learning_rate=5e-3, head_learning_rate=5e-3)


def model(name: str, **arguments: Any) -> ConfigDict:
  """Returns a zoo model and its arguments, as `experiments.models.create` takes them.

  Args:
    name: in the zoo.
    **arguments: fields of the model's class.
  """
  return ConfigDict({"name": name, "arguments": arguments})


def choose(file: str, name: str, choices: Iterable[str]) -> None:
  """Raises an error where an argument is none of a configuration's choices.

  Args:
    file: the configuration's, for the message.
    name: as it was given, usually of a data set.
    choices: what the file has.

  Raises:
    ValueError: names the file, the argument and the choices.

  Example:
    >>> choose("a.py", "svhn", ["digits", "mnist"])
    Traceback (most recent call last):
    ...
    ValueError: a.py:svhn: must be one of digits, mnist
  """
  if name not in choices:
    raise ValueError(f"{file}:{name}: must be one of {', '.join(choices)}")


def spend(file: str, budget: str, budgets: Mapping[str, Budget | None],
          config: ConfigDict) -> ConfigDict:
  """Applies a budget to a configuration.

  Args:
    file: the configuration's, for the message.
    budget: as it was given; "" is the first.
    budgets: what changes the configuration in place; None leaves it as it is.
    config: stays as it is.

  Returns:
    The configuration within the budget, locked.

  Raises:
    ValueError: an unknown budget.

  Example:
    >>> spend("a.py", "tiny", {"full": None}, ConfigDict())
    Traceback (most recent call last):
    ...
    ValueError: a.py: budget 'tiny' must be one of full
  """
  budget = budget or next(iter(budgets))
  if budget not in budgets:
    raise ValueError(f"{file}: budget {budget!r} must be one of {', '.join(budgets)}")
  change, config = budgets[budget], apart(config)
  if change is not None:
    change(config)
  return apart(config).lock()  # locked: a flag for a field that is not there is an error


def apart(config: ConfigDict) -> ConfigDict:
  """Returns a configuration no two of whose parts are one object.

  A file in `configs/` may use a model or a recipe twice; a flag is to change it in one place only.

  Args:
    config: any.

  Example:
    >>> train = ConfigDict({"epochs": 3})
    >>> made = apart(ConfigDict({"base": train, "kd": train}))
    >>> made.base.epochs = 5
    >>> made.kd.epochs
    3
  """
  return ConfigDict({name: apart(value) if isinstance(value, ConfigDict) else value
                     for name, value in config.items()})


def few(parts: Iterable[ConfigDict], steps: int, batch: int, epochs: int = 1) -> None:
  """Lets parts of a study train for a few steps only.

  Args:
    parts: each has `train`, which is changed in place.
    steps: per epoch.
    batch: images per step.
    epochs: of each training.
  """
  for part in parts:
    part.train.update({"epochs": epochs, "steps_per_epoch": steps, "batch_size": batch})


def combinations(student: ConfigDict, *, kd: ConfigDict, imp: ConfigDict, rounds: int = 30,
                 tolerance: float = 0.01) -> dict[str, Any]:
  """Returns what the sixteen combinations need beside a base model.

  Args:
    student: the model that is distilled.
    kd: how the student trains.
    imp: how a round of pruning recovers.
    rounds: of pruning, at most.
    tolerance: accuracy, 0 to 1, that pruning may cost.

  Returns:
    combos, student, kd, imp, lrtf, q, as `experiments.studies.combo` takes them.
  """
  return {
      # Or names and commas: "base,imp,imp+q". Beside the sixteen: "fisher" in the place of "lrtf"
      # factorizes by the Fisher information, "tune" behind either trains as `imp` does.
      "combos": "all",
      "student": student,
      "kd": {"train": kd, "temperature": 5.0, "alpha": 0.7},
      "imp": {"train": imp, "fraction": 0.2, "tolerance": tolerance, "rounds": rounds},
      "lrtf": {"rank": 0, "delta": 1},  # rank 0: r_max - delta
      "q": {"bits": 8, "activation_bits": 8, "images": 2048},
  }
