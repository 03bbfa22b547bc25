"""The compiled training steps: distillation, and pruning and quantization on the way."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh

import compress_jax as cj
from experiments.training import averages, devices, losses, optimizers, schedules
from experiments.training.augment import Augment
from experiments.training.recipe import Method
from experiments.training.views import view


def steps_program(model: nn.Module, options: Augment, taught: bool = False,
                  aware: bool = False, schedule: str | None = None,
                  method: Method = Method(),  # noqa: B008, it is frozen
                  on: Mesh | None = None) -> Any:
  """Returns the compiled function that trains for some steps.

  Every number is traced: one program serves all learning rates, durations,
  temperatures and sparsities of a model; bits are in the leaves.

  Args:
    model: what is trained.
    options: augmentation.
    taught: whether it learns from a teacher's logits, or from the labels alone.
    aware: whether layers' inputs are rounded too, and grids follow the weights.
    schedule: name of one of `cj.schedules` by which every step prunes, or None.
    method: optimizer, schedule of the learning rate, and what the loss is.
    on: the mesh whose devices share the parameters; None where each has all of them.

  Returns:
    run(state, data, numbers, first, last) -> (state, sums), where state is {"trainable",
    "rest", "stats", "optimizer", maybe "average"} and is donated, data is {"images", "labels",
    "order", "offset", "key", maybe "soft"} (see `input_pipeline`; "soft" is of
    `answers`), and sums are of loss and correct answers.
  """
  # However the arguments are given: a cache takes `f(x)` and `f(x=x)` for two.
  return _steps_program(model, options, taught, aware, schedule, method, on)


# Cached, because `jax.jit` compiles again for every new function.
@functools.lru_cache(maxsize=64)
def _steps_program(model: nn.Module, options: Augment, taught: bool, aware: bool,
                   schedule: str | None, method: Method, on: Mesh | None) -> Any:
  """Does what `steps_program` says."""
  loss_fn = _loss(_forward(model, aware), method.smooths)
  gradients = jax.value_and_grad(loss_fn, has_aux=True)

  def step(i: Any, carry: Any, data: Any, numbers: Any) -> Any:
    state, sums = carry
    at = numbers["start"] + i
    state = state | _compressed(state, at, numbers, aware, schedule)
    seen = view(i, data, numbers, options)
    # The teacher was asked about the same augmented view (Beyer et al. 2022).
    soft = data["soft"][i - data["offset"]] if taught else None
    (loss, (stats, correct)), grads = gradients(
        state["trainable"], state["rest"], state["stats"], seen, soft, numbers)
    rate = schedules.rate(method.schedule, at, numbers)
    trainable, optimizer = optimizers.step(method.optimizer, state, _params(state), grads, rate,
                                           numbers)
    state = state | {"trainable": trainable, "stats": stats, "optimizer": optimizer}
    if method.averages:
      state["average"] = averages.step(state["average"], state, numbers["ema"], at)
    # Or XLA may put together at the end of a step what the next one expects in parts.
    state = devices.constrained(state, on)
    return state, {"loss": sums["loss"] + loss, "correct": sums["correct"] + correct}

  # The state is donated: there is never a second copy of it in memory.
  @functools.partial(jax.jit, donate_argnums=0)
  def run(state: Any, data: Any, numbers: Any, first: Any, last: Any) -> Any:
    body = functools.partial(step, data=data, numbers=numbers)
    sums = {"loss": jnp.float32(0), "correct": jnp.int32(0)}
    state, sums = jax.lax.fori_loop(first, last, body, (state, sums))
    return devices.constrained(state, on), sums

  return run


def _params(state: Any) -> Any:
  return cj.merge(state["trainable"], state["rest"])


def _loss(forward: Any, smooths: bool) -> Any:
  """Returns the function from the trainable part to (loss, (statistics, correct answers))."""
  def loss_fn(trainable: Any, rest: Any, stats: Any, seen: Any, soft: Any, numbers: Any) -> Any:
    params, labels = cj.merge(trainable, rest), seen.labels
    smoothing = numbers["smoothing"] if smooths else None
    logits, stats = forward(params, stats, seen.images, seen.key)
    if soft is None:
      loss = losses.on_labels(logits, labels, smoothing, seen.share)
    else:
      loss = losses.on_teacher(logits, soft, labels, numbers, smoothing, seen.share)
    # A weight of 0 costs too little to be worth a second program.
    loss += numbers["l1"] * cj.penalties.l1(params) + numbers["l2"] * cj.penalties.l2(params)
    # Of a mixed image the label of its larger part counts.
    answers = labels if seen.share is None else jnp.where(seen.share < 0.5, labels[::-1], labels)
    return loss, (stats, (logits.argmax(-1) == answers).sum())

  return loss_fn


def _forward(model: nn.Module, aware: bool) -> Any:
  """Returns the training pass, on dense arrays or, if `aware`, with rounded inputs too."""
  def apply(params: Any, stats: Any, images: Any, key: Any) -> Any:
    variables = {"params": params}
    if stats:
      variables["batch_stats"] = stats
    logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"],
                              rngs={"dropout": key})
    return logits, new.get("batch_stats", {})

  def apply_dense(params: Any, *rest: Any) -> Any:
    return apply(cj.dense(params), *rest)

  if aware:
    # Rounded in floats: to the last bit is not needed here, and takes longer.
    return cj.lift(apply, exact=False)
  return apply_dense


def _compressed(state: Any, at: Any, numbers: Any, aware: bool,
                schedule: str | None) -> dict[str, Any]:
  """Returns the parameters with the step's sparsity, on grids that span them now."""
  if not (schedule or aware):
    return {}
  params = _params(state)
  if schedule:
    sparsity_at = getattr(cj.schedules, schedule)(
        numbers["sparsity"], start=numbers["prune_from"], stop=numbers["prune_to"])
    params = cj.prune.gradual(params, jnp.asarray(at, jnp.int32), sparsity_at,
                              every=numbers["every"], stop=numbers["prune_to"])
  if aware:
    params = cj.quantize.refit(params)
  trainable, rest = averages.split(params, state["trainable"])
  return {"trainable": trainable, "rest": rest}
