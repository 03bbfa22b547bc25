"""The compiled training of a grid's cells: sparsity and precision are traced values.

One program prunes and retrains for some steps, then rounds and retrains for some
more, whatever the cell; looped over cells, or all at once under `vmap`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

import compress_jax as cj
from experiments.training import losses, schedules
from experiments.training.augment import Augment
from experiments.training.optimizers import ADAM
from experiments.training.views import View, view

# By layer, as the toolkit that the paper used does.
prune = functools.partial(cj.prune.magnitude, scope="layer")


def _as_they_are(params: Any) -> Any:
  return params


# By the bits of a cell: what rounds its parameters.
ROUNDED = {32: _as_they_are,
           16: functools.partial(cj.quantize.cast, to="float16"),
           8: functools.partial(cj.quantize.affine, bits=8)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What every cell's training has in common.

  Attributes:
    prune_steps: of pruning and retraining; none change a cell that is not pruned.
    round_steps: of retraining rounded; none change a cell of 32 bits.
    every: steps from one pruning to the next.
    initial: sparsity that pruning starts from.
    until: when the last weights go, as a fraction of `prune_steps`.
    learning_rate: Adam's.
    decays: whether it falls to 0, linearly, while pruning and again while rounded.
    seed: of which images are mirrored first, where that alternates.
    augment: augmentation.
  """

  prune_steps: int
  round_steps: int
  every: int = 100
  initial: float = 0.5
  until: float = 0.75
  learning_rate: float = 1e-3
  decays: bool = False
  seed: int = 0
  augment: Augment = Augment()  # noqa: RUF009, it is frozen

  @property
  def steps(self) -> int:
    """All steps of a cell."""
    return self.prune_steps + self.round_steps


def start(params: Any) -> dict[str, Any]:
  """Returns the state of training at its first step.

  Args:
    params: parameters, dense or pruned.

  Returns:
    {"params", "adam"}: the parameters with masks, which mask nothing of dense ones, and Adam's
    state.
  """
  # Copies, because the compiled steps take their state's memory over.
  masked = jax.tree.map(lambda x: jnp.array(x, copy=True), prune(params, 0.0))
  return {"params": masked, "adam": ADAM.init(cj.partition(masked)[0])}


def weights(params: Any, bits: Any) -> Any:
  """Returns the dense arrays that a cell computes with.

  Args:
    params: the cell's parameters, with masks.
    bits: 32, 16 or 8; may be traced.
  """
  def pick(full: jax.Array, half: jax.Array, eight: jax.Array) -> jax.Array:
    return jnp.where(bits == 8, eight, jnp.where(bits == 16, half, full))

  # All three are computed: bits are traced, so that one program serves all cells.
  made = {width: cj.dense(rounded(params)) for width, rounded in ROUNDED.items()}
  return jax.tree.map(pick, made[32], made[16], made[8])


# Cached, because `jax.jit` compiles again for every new function.
@functools.lru_cache(maxsize=8)
def program(model: nn.Module, plan: Plan) -> Any:
  """Returns the function that trains a cell for some steps, not compiled.

  Args:
    model: a zoo model without batch norm.
    plan: what cells have in common.

  Returns:
    run(state, cell, data, first, last) -> (state, {"loss", "correct"} summed),
    where cell is {"sparsity", "bits"} and data {"images", "labels", "order", "offset", "key",
    "epoch"}; row i - offset of order says which images are of step i.
  """
  def loss_fn(trainable: Any, rest: Any, bits: Any, seen: View) -> Any:
    dense = weights(cj.merge(trainable, rest), bits)
    logits = model.apply({"params": dense}, seen.images, train=True, rngs={"dropout": seen.key})
    loss = losses.on_labels(logits, seen.labels, share=seen.share)
    return loss, (logits.argmax(-1) == seen.labels).sum()

  def step(at: Any, carry: Any, cell: Mapping[str, Any], data: Any) -> Any:
    state, sums = carry
    rounding = at >= plan.prune_steps
    params = _pruned(state["params"], at, cell["sparsity"], plan)
    trainable, rest = cj.partition(params)
    seen = view(at, data, {"epoch": data["epoch"], "seed": plan.seed}, plan.augment)
    (loss, correct), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        trainable, rest, jnp.where(rounding, cell["bits"], 32), seen)
    # Adam starts anew with rounding, whether the cell was pruned here, before, or not at all.
    adam = jax.tree.map(lambda old, new: jnp.where(at == plan.prune_steps, new, old),
                        state["adam"], ADAM.init(trainable))
    updates, adam = ADAM.update(grads, adam)
    # A cell that is not pruned, or not rounded, stays as it is.
    works = jnp.where(rounding, cell["bits"] < 32, cell["sparsity"] > 0)
    rate = jnp.where(works, _rate(at, plan), 0.0)
    trainable = jax.tree.map(lambda p, u: p - rate * u, trainable, updates)
    return ({"params": cj.merge(trainable, rest), "adam": adam},
            {"loss": sums["loss"] + loss, "correct": sums["correct"] + correct})

  def run(state: Any, cell: Any, data: Any, first: Any, last: Any) -> Any:
    body = functools.partial(step, cell=cell, data=data)
    sums = {"loss": jnp.float32(0), "correct": jnp.int32(0)}
    return jax.lax.fori_loop(first, last, body, (state, sums))

  return run


@functools.lru_cache(maxsize=8)
def looped(model: nn.Module, plan: Plan) -> Any:
  """Returns `program`, compiled once for all cells.

  Args:
    model: a zoo model without batch norm.
    plan: what cells have in common.
  """
  return jax.jit(program(model, plan), donate_argnums=0)


@functools.lru_cache(maxsize=8)
def together(model: nn.Module, plan: Plan) -> Any:
  """Returns `program`, compiled for cells side by side.

  Arguments as there; the state and the cell of the function have one more axis in front.
  """
  return jax.jit(jax.vmap(program(model, plan), (0, 0, None, None, None)), donate_argnums=0)


def _rate(at: Any, plan: Plan) -> Any:
  """Returns the learning rate of a step."""
  if not plan.decays:
    return plan.learning_rate
  pruning = schedules.linear(at, plan.prune_steps, plan.learning_rate, 0.0)
  rounding = schedules.linear(at - plan.prune_steps, plan.round_steps, plan.learning_rate, 0.0)
  return jnp.where(at < plan.prune_steps, pruning, rounding)


def _pruned(params: Any, at: Any, sparsity: Any, plan: Plan) -> Any:
  """Returns the parameters with the step's sparsity (Zhu and Gupta 2017)."""
  stop = min(plan.until * plan.prune_steps, plan.prune_steps - 1)  # the last step, at the latest
  schedule = cj.schedules.cubic(sparsity, initial=jnp.minimum(plan.initial, sparsity), stop=stop)
  return cj.prune.gradual(params, jnp.asarray(at, jnp.int32), schedule, every=plan.every,
                          stop=stop, prune=prune)
