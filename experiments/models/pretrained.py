"""torchvision's weights for the zoo's ResNets and SqueezeNet."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from compress_jax.extras import need
from experiments.models import torch_file
from experiments.models.resnet import ResNet
from experiments.models.squeezenet import SqueezeNet

# By our names: what PyTorch calls a layer's arrays.
_FIELDS = {"kernel": "weight", "bias": "bias", "scale": "weight", "mean": "running_mean",
           "var": "running_var"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
  """Weights from a file.

  Attributes:
    variables: of the model: {"params", maybe "batch_stats"}.
    fresh: paths of the parameters that are newly initialized, not from the file.
  """

  variables: Any
  fresh: tuple[str, ...]


def load(path: str | os.PathLike[str], model: nn.Module, *,
         head_key: jax.Array | None = None) -> Pretrained:
  """Loads a state dict of torchvision's `resnet18`, `resnet50`, … or `squeezenet1_0`.

  Its images have ImageNet's mean 0 and deviation 1: create the model with
  `standardize=True`, and give it images from -1 to 1 like any other. Those figures
  cannot be folded into the first convolution, whose padding is 0 after them.

  Args:
    path: `.safetensors`, or a `.pth` of PyTorch 1.6 and later, of which nothing is run.
    model: a ResNet or SqueezeNet of the zoo, not folded.
    head_key: initializes the last layer where the file's has another number of
      classes; None raises there.

  Returns:
    The variables, in float32, and what is not from the file.

  Raises:
    ValueError: the file cannot be read, or its tensors are not the model's: names
      all that are missing, unexpected or of another shape.
    ImportError: safetensors is not installed.
  """
  # PyTorch counts the batches of every norm; Linen has nothing like it.
  tensors = {name: x for name, x in read(path).items()
             if not name.endswith(".num_batches_tracked")}
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  wanted = flatten_dict(shapes)
  names = {at: torch_name(model, at) for at in wanted}
  found = {at: _transposed(at, tensors[name]) for at, name in names.items() if name in tensors}
  fresh = [] if head_key is None else _other_head(found, wanted)
  found |= {at: _initial(head_key, wanted[at].shape) for at in fresh}
  _check(path, wanted, names, found, tensors)
  values = {at: jnp.asarray(found[at], jnp.float32) for at in wanted}
  return Pretrained(variables=unflatten_dict(values),
                    fresh=tuple("/".join(at[1:]) for at in fresh))


def read(path: str | os.PathLike[str]) -> Mapping[str, np.ndarray]:
  """Returns the tensors of a `.safetensors` file, or of one that `torch.save` wrote, by name.

  Args:
    path: the file.

  Raises:
    ValueError: it cannot be read as either.
    ImportError: safetensors is not installed.
  """
  if not os.fspath(path).endswith(".safetensors"):
    return torch_file.read(path)
  library = need("safetensors.flax", "safetensors")
  failure = need("safetensors", "safetensors").SafetensorError
  try:
    return {name: np.asarray(x) for name, x in library.load_file(path).items()}
  except failure as error:
    raise ValueError(f"{path}: not a safetensors file ({error})") from None


def torch_name(model: nn.Module, at: tuple[str, ...]) -> str:
  """Returns torchvision's name of a variable.

  Args:
    model: a ResNet or SqueezeNet of the zoo.
    at: keys down to the variable, the collection first.

  Returns:
    The name in the state dict.

  Raises:
    ValueError: torchvision has no such model.

  Example:
    >>> torch_name(ResNet(num_classes=10), ("params", "stage0_block1", "layer0", "conv", "kernel"))
    'layer1.1.conv1.weight'
  """
  if isinstance(model, ResNet):
    layer = _in_resnet("/".join(at[1:-1]))
  elif isinstance(model, SqueezeNet):
    layer = _in_squeezenet(model, "/".join(at[1:-1]))
  else:
    raise ValueError(f"model={type(model).__name__}: must be a ResNet or SqueezeNet")
  return f"{layer}.{_FIELDS[at[-1]]}"


def _in_resnet(layer: str) -> str:
  whole = {"head": "fc", "stem/conv": "conv1", "stem/norm": "bn1"}
  if layer in whole:
    return whole[layer]
  stage, block, part, kind = re.fullmatch(r"stage(\d+)_block(\d+)/(\w+)/(\w+)", layer).groups()
  # torchvision counts stages and layers from 1, blocks from 0.
  prefix = f"layer{int(stage) + 1}.{block}"
  if part == "shortcut":
    return prefix + (".downsample.0" if kind == "conv" else ".downsample.1")
  number = int(part.removeprefix("layer")) + 1
  return f"{prefix}.conv{number}" if kind == "conv" else f"{prefix}.bn{number}"


def _in_squeezenet(model: SqueezeNet, layer: str) -> str:
  whole = {"head": "classifier.1", "stem": "features.0"}
  if layer in whole:
    return whole[layer]
  group, fire, part = re.fullmatch(r"group(\d+)_fire(\d+)/(\w+)", layer).groups()
  # Modules before it: the stem and its ReLU, and for each earlier group a pooling and its fires.
  before = 2
  for earlier in model.groups[:int(group)]:
    before += 1 + len(earlier)
  # Then its own group's pooling and earlier fires.
  number = before + 1 + int(fire)
  names = {"expand1": "expand1x1", "expand3": "expand3x3"}
  return f"features.{number}.{names.get(part, part)}"


def _transposed(at: tuple[str, ...], x: np.ndarray) -> np.ndarray:
  """Returns a kernel as Linen has it: HWIO from OIHW, inputs first."""
  if at[-1] != "kernel":
    return x
  return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T


def _initial(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Returns what Linen starts a kernel or bias with."""
  if len(shape) == 1:
    return jnp.zeros(shape)
  return nn.initializers.lecun_normal()(key, shape)


def _other_head(found: Any, wanted: Any) -> list[tuple[str, ...]]:
  """Returns where the last layer has the right inputs, and another number of outputs."""
  others = []
  for at, x in found.items():
    here, there = x.shape, wanted[at].shape
    if at[1] == "head" and here[:-1] == there[:-1] and here != there:
      others.append(at)
  return others


def _check(path: Any, wanted: Any, names: Any, found: Any, tensors: Any) -> None:
  """Raises a ValueError that names all tensors that are not the model's."""
  used = set(names.values())
  problems = {
      "missing": [name for at, name in names.items() if at not in found],
      "unexpected": [name for name in tensors if name not in used],
      "of another shape": [f"{names[at]} (as ours {x.shape}, must be {wanted[at].shape})"
                           for at, x in found.items() if x.shape != wanted[at].shape]}
  said = [f"{kind}: {', '.join(which)}" for kind, which in problems.items() if which]
  if said:
    raise ValueError(f"{path}: tensors {'; '.join(said)}")
