"""What the names in a tree's paths tell: which leaves are weights, and which are statistics."""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Any

# Last parts of paths that name no weight, however many dimensions they have: attention's biases
# are (heads, features), Equinox's convolutions' (channels, 1, 1), and a stack of layers has one
# axis more. Haiku's norms have an offset.
_NO_WEIGHT = re.compile(r"(.*_)?(bias|biases)(_.*)?|scale|offset|gamma|beta", re.IGNORECASE)
# What norms of several libraries count along.
_STATISTICS = {"batch_stats", "running_mean", "running_var", "num_batches_tracked"}
# Collections of Linen that do not train. Modules may be called so too.
_COLLECTIONS = {"cache", "intermediates", "perturbations", "params_axes"}


def is_weight(path: str, x: Any) -> bool:
  """Tells by name and shape whether a leaf is a weight that transforms take by default.

  Where a model does not keep to these names, `cj.used_in_products` asks the model.

  Args:
    path: of the leaf.
    x: an array or leaf.

  Returns:
    Whether it has two or more dimensions and is called neither bias, scale, offset, gamma nor
    beta.

  Example:
    >>> import numpy as np
    >>> heads = np.ones((4, 8))
    >>> is_weight("attention/query/kernel", heads), is_weight("attention/query/bias", heads)
    (True, False)
  """
  name = _unboxed(path).rpartition("/")[2]
  return x.ndim >= 2 and _NO_WEIGHT.fullmatch(name) is None


def _unboxed(path: str) -> str:
  """Returns the path of a variable: Flax's variables hold their array as an attribute `value`."""
  return path.removesuffix("/value")


def biases_and_norms(shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
  """Finds by what lies beside them biases and norms' scales that `is_weight` does not know.

  Haiku and many models of bare functions call a layer's bias "b"; Equinox and PyTorch call a
  norm's scale "weight", beside a bias of the same shape. In a stack of layers both have two
  dimensions or more.

  Args:
    shapes: {path: shape} of all leaves of a tree.

  Returns:
    Their paths.

  Example:
    >>> sorted(biases_and_norms({"0/w": (3, 4, 8), "0/b": (3, 8), "norm/weight": (3, 8),
    ...                          "norm/bias": (3, 8), "lora/a": (8, 2), "lora/b": (2, 8)}))
    ['0/b', 'norm/weight']
  """
  plain = {_unboxed(path): shape for path, shape in shapes.items()}
  found = set()
  for path, shape in shapes.items():
    parent, slash, name = _unboxed(path).rpartition("/")
    beside = parent + slash
    if name == "b":
      weights = [plain.get(beside + other, ()) for other in ("w", "kernel", "weight")]
      is_other = any(len(weight) > len(shape) for weight in weights)
    else:
      is_other = name == "weight" and plain.get(f"{beside}bias") == shape
    if is_other:
      found.add(path)
  return found


def statistics(paths: Sequence[str]) -> set[str]:
  """Finds what lies beside a model's parameters: running means, an optimizer's state and such.

  Args:
    paths: of all leaves of a tree.

  Returns:
    Those that are not parameters.

  Example:
    >>> sorted(statistics(["params/w", "batch_stats/norm/mean", "batch_stats/norm/var"]))
    ['batch_stats/norm/mean', 'batch_stats/norm/var']
  """
  known = set(map(_unboxed, paths))
  # A training state, which may be part of a larger tree, has the optimizer's numbers beside its
  # parameters.
  states = {before for path in paths for before in _before_params(path)}
  optimizers = {path for path in paths for state in states
                if path.startswith(state) and of_optimizer(path.removeprefix(state))}
  return optimizers | {path for path in paths if _is_statistic(path, known)}


def _before_params(path: str) -> Iterator[str]:
  """Yields what stands in front of each "params/" in a path."""
  parts = path.split("/")
  for i, part in enumerate(parts[:-1]):
    if part == "params":
      yield "".join(f"{name}/" for name in parts[:i])


def beside_params(paths: Sequence[str], fixed: Container[str]) -> list[str]:
  """Finds what lies in collections beside Linen's "params" that are not known to Flax.

  Args:
    paths: of all leaves of a tree.
    fixed: those that `statistics` found.

  Returns:
    Those of which their names do not tell whether they train: a head of one's own, or a
    model's memory. None where there is no "params".

  Example:
    >>> paths = ["params/w", "batch_stats/norm/mean", "projection"]
    >>> beside_params(paths, statistics(paths))
    ['projection']
  """
  if not any(path.startswith("params/") for path in paths):
    return []
  return [path for path in paths if not (path.startswith("params/") or path in fixed)]


def _is_statistic(path: str, known: set[str]) -> bool:
  path = _unboxed(path)
  parent, _, name = path.rpartition("/")
  parts = path.split("/")
  if not _STATISTICS.isdisjoint(parts) or _in_collection(parts, known):
    return True
  # NNX's norms keep both beside their scale; a parameter called so stands alone.
  pair = {f"{parent}/mean".lstrip("/"), f"{parent}/var".lstrip("/")}
  return name in ("mean", "var") and pair <= known


def _in_collection(parts: Sequence[str], known: Collection[str]) -> bool:
  """Returns whether a path goes through a collection that lies beside Linen's "params"."""
  for i, part in enumerate(parts):
    if part in _COLLECTIONS:
      before = "/".join([*parts[:i], "params", ""])
      if any(path.startswith(before) for path in known):
        return True
  return False


def of_optimizer(path: str) -> bool:
  """Returns whether what lies at a path is an optimizer's, and no parameter of the model.

  Args:
    path: "/"-joined, in a training state: Flax's `TrainState`, or one of that kind.

  Example:
    >>> of_optimizer("opt_state/0/mu/dense/kernel"), of_optimizer("step")
    (True, True)
    >>> of_optimizer("params/step/kernel")
    False
  """
  return path == "step" or path.partition("/")[0] in ("opt_state", "optimizer", "optimizer_state")
