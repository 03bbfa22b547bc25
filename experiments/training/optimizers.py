"""Optimizers by name, made of optax's: what is static, what is traced, and a step.

Parameters are of three groups: "filter" (weights of products), "head" (those of the last
layer) and "rest" (biases and norms). Muon takes the filters; each group may have a learning
rate of its own. No step moves a weight that is masked.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from compress_jax import names
from compress_jax.leaves import is_leaf
from compress_jax.paths import path_str

ADAM = optax.scale_by_adam()
KINDS = ("adam", "sgd", "muon")
REST_KINDS = ("adam", "sgd")
_HEAD = re.compile(r"(^|/)head/")  # what the zoo's models call their last layer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
  """What of an optimizer is compiled in; its numbers are traced.

  Attributes:
    kind: one of `KINDS`.
    rest: beside Muon, one of `REST_KINDS`.
    newton_schulz_steps: Muon's.
    normalize_filters: see `Optimizer`.
    decays: whether weights decay.
    grouped: whether groups have learning rates of their own.
  """

  kind: str = "adam"
  rest: str = "adam"
  newton_schulz_steps: int = 5
  normalize_filters: bool = False
  decays: bool = False
  grouped: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """How gradients become steps; the learning rate and its schedule are the recipe's.

  Attributes:
    kind: "adam"; "sgd" with Nesterov's momentum; "muon" for filters, flattened to
      matrices (inputs of a product by outputs), with `rest` for everything else.
    momentum: of SGD, or of Muon; 0 to below 1.
    weight_decay: times the learning rate is taken off weights in every step, as AdamW
      does; biases and norms do not decay.
    bias_learning_rate: of biases and norms at the first step; 0 is the filters'.
    head_learning_rate: of the last layer's weights; 0 is the filters'.
    rest: beside Muon, "adam" or "sgd" for the last layer, biases and norms.
    rest_momentum: of that SGD.
    newton_schulz_steps: by which Muon makes a step orthogonal.
    normalize_filters: whether a filter bank's norm is set to the root of its number of
      outputs in front of every step of Muon; for networks in which a norm follows every
      layer but the head.

  Source: Muon: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon); decoupled weight
  decay: Loshchilov and Hutter 2019, times the learning rate as Optax's and PyTorch's AdamW.
  """

  kind: str = "adam"
  momentum: float = 0.9
  weight_decay: float = 0.0
  bias_learning_rate: float = 0.0
  head_learning_rate: float = 0.0
  rest: str = "adam"
  rest_momentum: float = 0.9
  newton_schulz_steps: int = 5
  normalize_filters: bool = False

  @property
  def rule(self) -> Rule:
    """What of it is compiled in."""
    grouped = bool(self.bias_learning_rate or self.head_learning_rate)
    rule = Rule(kind=self.kind, decays=self.weight_decay > 0, grouped=grouped)
    if self.kind != "muon":
      return rule  # one program, whatever is said of Muon
    return dataclasses.replace(rule, rest=self.rest, normalize_filters=self.normalize_filters,
                               newton_schulz_steps=self.newton_schulz_steps)

  def numbers(self, learning_rate: float) -> dict[str, float]:
    """Returns the numbers that `step` takes, all of them as traced values.

    Args:
      learning_rate: of the filters at the first step, to which other rates are relative.

    Raises:
      ValueError: another rate is given, and there is none to which it could be relative.
    """
    def relative(rate: float) -> float:
      if rate and not learning_rate:
        raise ValueError("learning_rate=0.0: must be above 0 beside bias_learning_rate or "
                         "head_learning_rate, which fall with it")
      return rate / learning_rate if rate else 1.0

    return {"momentum": self.momentum, "rest_momentum": self.rest_momentum,
            "weight_decay": self.weight_decay, "bias_factor": relative(self.bias_learning_rate),
            "head_factor": relative(self.head_learning_rate)}


def start(rule: Rule, trainable: Any) -> Any:
  """Returns the optimizer's state at the first step.

  Args:
    rule: of the optimizer.
    trainable: what trains, as `cj.partition` gives it.
  """
  # The numbers do not enter the state, only its steps.
  return _transformation(rule, {"momentum": 0.0, "rest_momentum": 0.0}).init(trainable)


def step(rule: Rule, state: Any, params: Any, grads: Any, rate: Any,
         numbers: Any) -> tuple[Any, Any]:
  """Returns what trains and the optimizer's state after a step.

  Args:
    rule: of the optimizer.
    state: {"trainable", "optimizer"} before it.
    params: the whole parameters, whose masks say what may move.
    grads: of the trainable part.
    rate: the learning rate of the filters now.
    numbers: `Optimizer.numbers`; not used where the rule is Adam's alone.

  Returns:
    (trainable, optimizer).
  """
  trainable = state["trainable"]
  updates, optimizer = _transformation(rule, numbers).update(grads, state["optimizer"])
  if rule == Rule():
    # Adam's step is 0 where the gradient always was: masks need no care.
    return jax.tree.map(lambda p, u: p - rate * u, trainable, updates), optimizer

  def moved(group: str, p: jax.Array, u: jax.Array, kept: Any) -> jax.Array:
    if rule.normalize_filters and group == "filter":
      p = _normalized(p, kept)
    if rule.decays and group != "rest":
      u = u + numbers["weight_decay"] * p
    return p - _of_group(rule, group, rate, numbers) * jnp.where(kept, u, 0)

  return jax.tree.map(moved, groups(trainable), trainable, updates,
                      masks(params, trainable)), optimizer


def groups(trainable: Any) -> Any:
  """Returns of which group each array is: "filter", "head" or "rest".

  Args:
    trainable: what trains, as `cj.partition` gives it.

  Example:
    >>> groups({"conv": {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)},
    ...         "head": {"kernel": jnp.ones((2, 2))}})
    {'conv': {'bias': 'rest', 'kernel': 'filter'}, 'head': {'kernel': 'head'}}
  """
  flat, structure = jax.tree_util.tree_flatten_with_path(trainable)
  return jax.tree.unflatten(structure, [_group(path_str(path), x) for path, x in flat])


def _group(path: str, x: Any) -> str:
  if not names.is_weight(path, x):
    return "rest"
  return "head" if _HEAD.search(path) else "filter"


def masks(params: Any, trainable: Any) -> Any:
  """Returns which elements of what trains may move: a mask for each array, or True.

  Args:
    params: the whole parameters.
    trainable: the trainable part of them.

  Example:
    >>> import compress_jax as cj
    >>> params = cj.prune.magnitude({"w": jnp.array([[1.0, 2.0]])}, 0.5)
    >>> jax.tree.leaves(masks(params, cj.partition(params)[0]))[0].tolist()
    [[False, True]]
  """
  def inside(leaf: Any, part: Any) -> Any:
    free = jax.tree.map(lambda x: True, part)
    if not is_leaf(leaf):
      return free
    if leaf.parts:
      return free.replace(**{name: inside(getattr(leaf, name), getattr(part, name))
                             for name in leaf.parts})
    mask = leaf.weight_mask()
    if mask is None:
      return free
    # Codebooks and scales have other shapes; the mask is not theirs.
    return jax.tree.map(lambda x: mask if x.shape == mask.shape else True, part)

  return jax.tree.map(inside, params, trainable, is_leaf=is_leaf)


def _transformation(rule: Rule, numbers: Any) -> optax.GradientTransformation:
  """Returns optax's optimizer without a learning rate."""
  if rule.kind == "adam":
    return ADAM
  if rule.kind == "sgd":
    return optax.trace(numbers["momentum"], nesterov=True)
  # Its steps have one size for all shapes: every singular value is about 1.
  muon = contrib.scale_by_muon(ns_steps=rule.newton_schulz_steps, beta=numbers["momentum"],
                               weight_dimension_numbers=_as_matrices)
  sgd = optax.trace(numbers["rest_momentum"], nesterov=True)
  rest = ADAM if rule.rest == "adam" else sgd
  return optax.partition({"filter": muon, "head": rest, "rest": rest}, groups)


def _as_matrices(filters: Any) -> Any:
  """Returns how filters become matrices: the last axis are outputs, the others inputs."""
  return jax.tree.map(lambda x: contrib.MuonDimensionNumbers(
      reduction_axis=tuple(range(x.ndim - 1)), output_axis=x.ndim - 1), filters)


def _normalized(p: jax.Array, kept: Any) -> jax.Array:
  """Returns filters whose norm, of what is not masked, is the root of the number of outputs."""
  norm = jnp.linalg.norm(jnp.where(kept, p, 0))
  return p * (jnp.sqrt(p.shape[-1]) / jnp.maximum(norm, 1e-12))


def _of_group(rule: Rule, group: str, rate: Any, numbers: Any) -> Any:
  if not rule.grouped or group == "filter":
    return rate
  return rate * numbers["head_factor" if group == "head" else "bias_factor"]
