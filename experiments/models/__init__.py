"""The model zoo: Linen modules called as `module(x, train=...)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from experiments.models.airnet import AirNet
from experiments.models.alexnet import AlexNet
from experiments.models.cnn import CNN
from experiments.models.convnet import ConvNet
from experiments.models.densenet import DenseNet
from experiments.models.ensemble import Ensemble
from experiments.models.resnet import ResNet, ResNet50
from experiments.models.squeezenet import SqueezeNet
from experiments.models.studentnet import StudentNet
from experiments.models.students import Student
from experiments.models.vgg import VGG

MODELS = {"airnet": AirNet, "alexnet": AlexNet, "cnn": CNN, "convnet": ConvNet,
          "densenet": DenseNet, "ensemble": Ensemble, "resnet18": ResNet, "resnet50": ResNet50,
          "squeezenet": SqueezeNet, "student": Student, "studentnet": StudentNet, "vgg": VGG}


def create(name: str, *, num_classes: int, **arguments: Any) -> nn.Module:
  """Makes a model.

  Args:
    name: one of `MODELS`.
    num_classes: length of the logits.
    **arguments: fields of the model's class.

  Returns:
    A Linen module: `module.init(key, images, train=False)`, then
    `module.apply(variables, images, train=...)` with images as float NHWC.

  Raises:
    ValueError: an unknown model or argument.

  Example:
    >>> create("densenet", num_classes=10, depth=40).growth
    12
  """
  if name not in MODELS:
    raise ValueError(f"model {name!r}: must be one of {', '.join(sorted(MODELS))}")
  # Every Linen module has "parent" and "name", which are not the model's own.
  known = set(MODELS[name].__dataclass_fields__) - {"parent", "name"}
  for argument in arguments:
    if argument not in known:
      raise ValueError(f"model {name!r}: argument {argument!r} must be one of "
                       f"{', '.join(sorted(known))}")
  # A module is a key of caches of compiled functions, so its fields must be hashable.
  fields = {argument: _hashable(value) for argument, value in arguments.items()}
  return MODELS[name](num_classes=num_classes, **fields)


def _hashable(x: Any) -> Any:
  """Returns lists as tuples, as they were before JSON, and dicts as sorted pairs."""
  if isinstance(x, Mapping):
    return tuple((key, _hashable(value)) for key, value in sorted(x.items()))
  if isinstance(x, list | tuple):
    return tuple(map(_hashable, x))
  return x
