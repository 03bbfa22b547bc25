"""What the tables predict of plans that were not evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from compress_jax.search.choices import Choice
from compress_jax.search.front import front
from compress_jax.search.knapsack import cheapest
from compress_jax.search.limits import Limits, Point
from compress_jax.search.sensitivity import Table

# A plan while searching: for every layer, the place of its choice among the layer's choices.
Key = tuple[int, ...]

LOSS, BYTES, MS = range(3)  # columns of `Layer.effects`


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
  """What the tables say about one layer.

  Attributes:
    path: its place in the parameter tree.
    choices: what may be done to it; those that made the table's number infinite or NaN
      are left out.
    untouched: the place of the choice that changes nothing.
    effects: float64, (choices, 3): the table's loss, bytes and milliseconds of each.
  """

  path: str
  choices: Sequence[Choice]
  untouched: int
  effects: np.ndarray


class Change(NamedTuple):
  """Another choice for one layer of a plan: two places, in the layers and in its choices."""

  layer: int
  choice: int


class Front(NamedTuple):
  """Plans that no other is predicted to beat: keys, and the rising cost of each."""

  plans: list[Key]
  costs: np.ndarray


def predicted_layers(table: Table, nbytes: Mapping[str, Mapping[Choice, int]],
                     latency_table: Table | None) -> list[Layer]:
  """Returns what is predicted of every layer.

  Args:
    table: of the score, from `sensitivity`.
    nbytes: {path: {choice: bytes}}, of the same layers and choices.
    latency_table: of milliseconds, of the same layers and choices; None counts no time.

  Returns:
    One `Layer` per layer, in the table's order.

  Raises:
    ValueError: a layer lacks the choice that changes nothing, or has no finite number for it.
  """
  return [_layer(path, table, nbytes[path], latency_table) for path in table.scores]


def _layer(path: str, table: Table, nbytes: Mapping[Choice, int],
           latency_table: Table | None) -> Layer:
  choices, scores = list(table.scores[path]), list(table.scores[path].values())
  if Choice() not in choices:
    raise ValueError("table: every layer's choices must have the one that changes nothing")
  # Anything gained by compressing one layer is noise that will not add up.
  loss = np.maximum(0, table.base - np.array(scores))
  ms = np.zeros(len(choices))
  if latency_table is not None:
    ms = np.array(list(latency_table.scores[path].values())) - latency_table.base
  stored = np.array([nbytes[choice] for choice in choices], np.float64)
  effects = np.column_stack([loss, stored, ms])
  # A score of infinity would pass for no loss at all.
  usable: np.ndarray = np.all(np.isfinite(effects), axis=1) & np.isfinite(np.array(scores))
  if not usable[choices.index(Choice())]:
    raise ValueError(f"table: the uncompressed model has {table.base}; must be a finite number")
  # A choice that makes the model diverge by itself is no choice.
  choices = [choice for choice, fine in zip(choices, usable, strict=True) if fine]
  return Layer(path=path, choices=choices, untouched=choices.index(Choice()),
               effects=effects[usable])


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Price:
  """What a fraction of a limit costs a plan, for each of the two things that cost.

  Attributes:
    bytes: of a whole `max_bytes`.
    time: of a whole `max_latency_ms`.
  """

  bytes: float
  time: float


_BYTES_ALONE = _Price(bytes=1.0, time=0.0)
# A hundredth is enough to prefer, of two plans alike in what counts, the one that also
# saves the other thing, and too little to give up any of what counts for it.
_MOSTLY_BYTES = _Price(bytes=1.0, time=0.01)
_MOSTLY_TIME = _Price(bytes=0.01, time=1.0)
_EVENLY = _Price(bytes=0.5, time=0.5)


def predicted_fronts(layers: Sequence[Layer], limits: Limits, base: Point) -> list[Front]:
  """Returns the fronts of predicted loss against cost, for the costs that matter.

  Args:
    layers: from `predicted_layers`.
    limits: what is limited costs; bytes where nothing is limited but the score's drop.
    base: the uncompressed model, whose bytes and time stand in for limits not given.

  Returns:
    One front if only bytes or only time count; three from bytes to time if both do.
  """
  if limits.max_latency_ms is None:
    prices = [_BYTES_ALONE]
  elif limits.max_bytes is None:
    prices = [_MOSTLY_TIME]
  else:
    prices = [_MOSTLY_BYTES, _EVENLY, _MOSTLY_TIME]
  return [_front(layers, price, limits, base) for price in prices]


def _front(layers: Sequence[Layer], price: _Price, limits: Limits, base: Point) -> Front:
  per_byte = price.bytes / (limits.max_bytes or base.bytes)
  # A model that no time was measured of (or none at all) is priced by the millisecond.
  per_ms = price.time / (limits.max_latency_ms or base.latency_ms or 1.0)
  losses = [layer.effects[:, LOSS] for layer in layers]
  costs = [per_byte * layer.effects[:, BYTES] + per_ms * layer.effects[:, MS] for layer in layers]
  plans, total, _ = cheapest(losses, costs)
  # Times are differences from the uncompressed model's, which would make costs negative.
  total = total + per_ms * (base.latency_ms or 0.0)
  return Front([tuple(plan) for plan in plans.tolist()], total)


def predicted_loss(layers: Sequence[Layer], key: Key) -> float:
  """Returns the sum of the table's losses of a plan's choices."""
  return sum(layer.effects[i, LOSS] for layer, i in zip(layers, key, strict=True))


def changes(layers: Sequence[Layer], key: Key) -> list[Change]:
  """Returns the changes of one layer of a plan that something speaks for.

  Args:
    layers: from `predicted_layers`.
    key: the plan.

  Returns:
    All choices that differ from the plan's, except those that another choice of the
    same layer beats in loss, bytes and time.
  """
  found = []
  for place, layer in enumerate(layers):
    for choice in front(layer.effects):
      if choice != key[place]:
        found.append(Change(place, choice))
  return found


def effects(layers: Sequence[Layer], key: Key, some: Sequence[Change]) -> np.ndarray:
  """Returns by how much each change adds to a plan's loss, bytes and time.

  Args:
    layers: from `predicted_layers`.
    key: the plan.
    some: changes of it.

  Returns:
    float64, (changes, 3).
  """
  return np.array([layers[c.layer].effects[c.choice] - layers[c.layer].effects[key[c.layer]]
                   for c in some])
