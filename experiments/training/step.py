"""The compiled training steps: distillation, and pruning and quantization on the way."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import compress_jax as cj
from experiments.training.augment import Augment, augment

ADAM = optax.scale_by_adam()


def cosine(step: Any, steps: Any, first: Any, last: Any) -> jax.Array:
  """Returns the learning rate at a step: half a cosine; every argument may be traced.

  Args:
    step: from 0.
    steps: when `last` is reached; the rate stays there afterwards.
    first: the rate at step 0.
    last: the rate at the end.

  Example:
    >>> float(cosine(5, 10, 1.0, 0.0).round(3))
    0.5
  """
  return last + (first - last) * (1 + jnp.cos(jnp.pi * jnp.minimum(step / steps, 1))) / 2


# Cached, because `jax.jit` compiles again for every new function.
@functools.lru_cache(maxsize=64)
def steps_program(model: nn.Module, teacher: nn.Module | None, options: Augment,
                  aware: bool = False, schedule: str | None = None) -> Any:
  """Returns the compiled function that trains for some steps.

  Every number is traced: one program serves all learning rates, durations,
  temperatures and sparsities of a model; bits are in the leaves.

  Args:
    model: what is trained.
    teacher: whom it learns from, or None for the labels alone.
    options: augmentation.
    aware: whether layers' inputs are rounded too, and grids follow the weights.
    schedule: name of one of `cj.schedules` by which every step prunes, or None.

  Returns:
    run(state, data, numbers, teacher_variables, first, last) -> (state, sums),
    where state is {"trainable", "rest", "stats", "adam"} and is donated, data is
    {"images", "labels", "order", "offset", "key"} (see
    `input_pipeline`), and sums are of loss and correct answers.
  """
  gradients = jax.value_and_grad(_loss(_forward(model, aware), teacher), has_aux=True)

  def step(i: Any, carry: Any, data: Any, numbers: Any, teacher_variables: Any) -> Any:
    state, sums = carry
    at = numbers["start"] + i
    state = state | _compressed(state, at, numbers, aware, schedule)
    index, key = data["order"][i - data["offset"]], jax.random.fold_in(data["key"], i)
    images = augment(key, data["images"][index], options)
    (loss, (stats, correct)), grads = gradients(
        state["trainable"], state["rest"], state["stats"], images, data["labels"][index],
        jax.random.fold_in(key, 1), numbers, teacher_variables)
    updates, adam = ADAM.update(grads, state["adam"])
    rate = cosine(at, numbers["steps"], numbers["first"], numbers["last"])
    trainable = jax.tree.map(lambda p, u: p - rate * u, state["trainable"], updates)
    return (state | {"trainable": trainable, "stats": stats, "adam": adam},
            {"loss": sums["loss"] + loss, "correct": sums["correct"] + correct})

  # The state is donated: there is never a second copy of it in memory.
  @functools.partial(jax.jit, donate_argnums=0)
  def run(state: Any, data: Any, numbers: Any, teacher_variables: Any, first: Any,
          last: Any) -> Any:
    body = functools.partial(step, data=data, numbers=numbers, teacher_variables=teacher_variables)
    sums = {"loss": jnp.float32(0), "correct": jnp.int32(0)}
    return jax.lax.fori_loop(first, last, body, (state, sums))

  return run


def _loss(forward: Any, teacher: nn.Module | None) -> Any:
  """Returns the function from the trainable part to (loss, (statistics, correct answers))."""
  def loss_fn(trainable: Any, rest: Any, stats: Any, images: Any, labels: Any, key: Any,
              numbers: Any, teacher_variables: Any) -> Any:
    params = cj.merge(trainable, rest)
    logits, stats = forward(params, stats, images, key)
    if teacher is None:
      loss = cj.distill.cross_entropy(logits, labels)
    else:
      # The teacher sees the same augmented view (Beyer et al. 2022).
      soft = teacher.apply(teacher_variables, images, train=False)
      loss = cj.distill.hinton(logits, soft, labels, temperature=numbers["temperature"],
                               alpha=numbers["alpha"])
    # A weight of 0 costs too little to be worth a second program.
    loss += numbers["l1"] * cj.penalties.l1(params) + numbers["l2"] * cj.penalties.l2(params)
    return loss, (stats, (logits.argmax(-1) == labels).sum())

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
  params = cj.merge(state["trainable"], state["rest"])
  if schedule:
    sparsity_at = functools.partial(getattr(cj.schedules, schedule), final=numbers["sparsity"],
                                    start=numbers["prune_from"], stop=numbers["prune_to"])
    params = cj.prune.gradual(params, jnp.asarray(at, jnp.int32), sparsity_at,
                              every=numbers["every"])
  if aware:
    params = cj.quantize.refit(params)
  trainable, rest = cj.partition(params)
  return {"trainable": trainable, "rest": rest}
