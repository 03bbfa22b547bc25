"""Pooling windows over images with channels last, as ONNX runtimes take them."""

from __future__ import annotations

from typing import Any

import numpy as np

from compress_jax.export.weights import node

_FIELDS = ("kernel_shape", "strides", "dilations")


def with_pools(nodes: list[Any]) -> list[Any]:
  """Rewrites maxima over windows of four and more axes.

  jax2onnx writes them as MaxPool over all axes, two empty ones added in front;
  runtimes take at most three. Here two axes without a window become batch and channels.

  Args:
    nodes: of a graph, in order.

  Returns:
    The nodes, with the pooling between two transpositions.
  """
  made_by = {name: n for n in nodes for name in n.output}
  replaced, dropped = {}, set()
  for n in nodes:
    group = _group(n, nodes, made_by)
    if group:
      # Where the last of them was: by then all that it takes is there.
      replaced[id(group[-1])] = _pool(n, group[0].input[0], group[-1].output[0])
      dropped |= {id(member) for member in group}
  made = []
  for n in nodes:
    if id(n) in replaced:
      made.extend(replaced[id(n)])
    elif id(n) not in dropped:
      made.append(n)
  return made


def _group(n: Any, nodes: list[Any], made_by: dict[str, Any]) -> list[Any]:
  """Returns Unsqueeze, Unsqueeze, MaxPool, Squeeze around a pool that needs rewriting, or []."""
  if n.op_type != "MaxPool" or len(_attributes(n)["kernel_shape"]) < 4 or len(_still(n)) < 2:
    return []
  second = made_by.get(n.input[0])
  if second is None or second.op_type != "Unsqueeze":
    return []
  first = made_by.get(second.input[0])
  if first is None or first.op_type != "Unsqueeze":
    return []
  users = [u for u in nodes if n.output[0] in u.input]
  if len(users) != 1 or users[0].op_type != "Squeeze":
    return []
  return [first, second, n, users[0]]


def _attributes(n: Any) -> dict[str, list[int]]:
  """Returns a pool's attributes, with what ONNX takes for those that are not there."""
  found = {a.name: list(a.ints) for a in n.attribute if a.name in (*_FIELDS, "pads")}
  rank = len(found["kernel_shape"])
  ones = {name: [1] * rank for name in _FIELDS}
  return ones | {"pads": [0] * 2 * rank} | found


def _still(n: Any) -> list[int]:
  """Returns the axes along which no window slides."""
  a = _attributes(n)
  rank = len(a["kernel_shape"])
  still = []
  for i in range(rank):
    one = a["kernel_shape"][i] == a["strides"][i] == 1
    unpadded = a["pads"][i] == a["pads"][rank + i] == 0
    if one and unpadded:
      still.append(i)
  return still


def _pool(n: Any, x: str, y: str) -> list[Any]:
  """Returns the nodes from the value `x` to `y`: transposed, pooled, transposed back."""
  a, front = _attributes(n), _still(n)[:2]
  rank = len(a["kernel_shape"])
  window = [i for i in range(rank) if i not in front]
  order = [*front, *window]
  fields = {name: [a[name][i] for i in window] for name in _FIELDS}
  before, after = a["pads"][:rank], a["pads"][rank:]
  fields["pads"] = [before[i] for i in window] + [after[i] for i in window]
  return [node("Transpose", [x], f"{y}/channels_first", perm=order),
          node("MaxPool", [f"{y}/channels_first"], f"{y}/pooled", **fields),
          node("Transpose", [f"{y}/pooled"], y, perm=np.argsort(order).tolist())]
