"""Common pipelines in one call: a recipe is a list of functions, and `code` is its Python.

A function of a recipe takes parameters and returns parameters: `cj.freeze`, or
`functools.partial(cj.prune.magnitude, sparsity=0.9)`. What also needs the model and data is made by
this module: `train`, `distill`, `calibrate`, `prune`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from compress_jax import checks, quantize, source, tree
from compress_jax import distill as distillation
from compress_jax import prune as pruning
from compress_jax.leaves import input_grid_of
from compress_jax.lift.tracing import lift
from compress_jax.optimizer import apply_updates, optimize
from compress_jax.trainable import partition
from compress_jax.tree import dense

Apply = Callable[[Any, Any], jax.Array]
Loss = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """What the steps of a recipe have in common.

  Attributes:
    apply: the model, (params, x) -> logits.
    data: batches (x, y); passed over more than once.
    loss: (logits, y) -> a number.
    optimizer: an optax optimizer.
    teacher: the parameters before the first step.
  """

  apply: Apply
  data: Iterable[tuple[Any, Any]]
  loss: Loss | None
  optimizer: Any
  teacher: Any


@dataclasses.dataclass(frozen=True)
class Step:
  """A function of a recipe that needs the model or data.

  Attributes:
    run: (params, setting) -> params.
    code: lines of Python that do the same to `params`.
    before: a line that comes before those of all steps, or "".
  """

  run: Callable[[Any, Setting], Any]
  code: str
  before: str = ""

  def __repr__(self) -> str:
    return self.code


Recipe = Sequence[Step | Callable[[Any], Any]]


def compress(apply: Apply, params: Any, recipe: Recipe, *, data: Iterable[tuple[Any, Any]] = (),
             loss: Loss | None = None, optimizer: Any = None) -> Any:
  """Puts parameters through a recipe.

  Args:
    apply: the model, (params, x) -> logits.
    params: a parameter tree.
    recipe: functions from parameters to parameters, and steps of this module, in order.
    data: batches (x, y), which can be passed over more than once (a list, or a loader).
    loss: (logits, y) -> a number; steps that train need it.
    optimizer: an optax optimizer; steps that train need it.

  Returns:
    The parameters after the last step.

  Raises:
    ValueError: a step needs data, loss or optimizer, and there is none; nothing is left to
      train; a function returns nothing; or data can be passed over only once.

  Example:
    >>> import functools, jax.numpy as jnp, optax
    >>> import compress_jax as cj
    >>> apply = lambda params, x: x @ params["w"]
    >>> params, x = {"w": jnp.eye(4)}, jnp.arange(8.0).reshape(2, 4)
    >>> recipe = [functools.partial(cj.prune.magnitude, sparsity=0.5),
    ...           cj.recipe.train(epochs=3),
    ...           functools.partial(cj.quantize.affine, bits=8), cj.freeze]
    >>> small = cj.compress(apply, params, recipe, data=[(x, x)], optimizer=optax.adam(1e-3),
    ...                     loss=lambda y, target: jnp.mean((y - target) ** 2))
    >>> small["w"]
    Quantized(integers=int8[4,4], scale=float32[1,4], pruned=True)
    >>> print(cj.recipe.code(recipe[2:]))
    params = cj.quantize.affine(params, bits=8)
    params = cj.freeze(params)
  """
  if isinstance(data, Iterator):
    raise ValueError(f"data: a {type(data).__name__}, which can be passed over only once; must be "
                     "a list, or a loader that starts anew")
  setting = Setting(apply=apply, data=data, loss=loss, optimizer=optimizer, teacher=params)
  return _through(recipe, params, setting)


def _through(recipe: Recipe, params: Any, setting: Setting) -> Any:
  """Returns the parameters after the steps of a recipe."""
  for step in recipe:
    # `prune` for `prune(0.9)` would be called with the parameters as its sparsity.
    if step in (train, distill, prune, calibrate):
      raise ValueError(f"recipe: {source.name(step)} makes a step and is none; must be called: "
                       f"{source.name(step)}(…)")
    params = step.run(params, setting) if isinstance(step, Step) else step(params)
    if params is None:
      raise ValueError(f"recipe: {step} returned None; must return the parameters")
  return params


def code(recipe: Recipe) -> str:
  """Returns the Python that a recipe stands for.

  Args:
    recipe: see `compress`.

  Returns:
    Lines that change `params`, and use `apply`, `data`, `loss` and `optimizer` as given to
    `compress`, with `cj` and `jax` imported.

  Raises:
    ValueError: a function or an argument that code cannot name: a lambda, an array.

  Example:
    >>> import compress_jax as cj
    >>> print(code([cj.freeze]))
    params = cj.freeze(params)
  """
  # Each line once: two steps that distill have one teacher.
  before = dict.fromkeys(step.before for step in recipe if isinstance(step, Step) and step.before)
  lines = [step.code if isinstance(step, Step) else source.call(step) for step in recipe]
  return "\n".join([*before, *lines])


def train(epochs: int = 1, *, aware: bool = False) -> Step:
  """Trains what a tree's leaves say trains; masks and bits stay.

  The grids of weights span these again after each step (`cj.quantize.refit`), but for learned
  ones: what moves beyond a grid would get no gradient any more.

  Args:
    epochs: passes over the data.
    aware: whether quantized inputs are rounded in the forward pass (`calibrate` comes first).

  Returns:
    The step.

  Raises:
    ValueError: epochs below 1.

  Source: ranges of weights in training: Jacob et al. 2018, section 3.1.

  Example:
    >>> print(train(2).code.splitlines()[-1])
        params, state = step(params, state, x, y)
  """
  checks.whole("epochs", epochs, 1)
  forward = "cj.lift(apply, exact=False)(params, x)" if aware else "apply(cj.dense(params), x)"
  objective = f"loss({forward}, y)"

  def run(params: Any, setting: Setting) -> Any:
    loss, model = _needed(setting.loss, "loss"), _forward(setting.apply, aware)
    # Of a factorized layer its factors have grids.
    parts = tree.select_parts(params, tree.everything)[0] if aware else ()
    if aware and not any(input_grid_of(part) for _, part in parts):
      raise ValueError("train(aware=True): no layer's input has a grid; calibrate() must be before "
                       "it in the recipe")
    return _trained(params, setting, epochs, lambda params, x, y: loss(model(params, x), y))

  return Step(run, _TRAINING.format(epochs=epochs, objective=objective))


def distill(epochs: int = 1, *, temperature: float = 4.0, alpha: float = 0.9) -> Step:
  """Trains on the logits of the model as it was before the first step, and on the labels.

  Args:
    epochs: passes over the data.
    temperature: by which both models' logits are divided, above 0.
    alpha: weight of the soft targets, 0 to 1.

  Returns:
    The step; labels are integers. `loss` is not used.

  Raises:
    ValueError: a number out of range.

  Source: Hinton, Vinyals and Dean 2015; see `cj.distill.hinton`.

  Example:
    >>> "cj.distill.hinton(" in distill(2).code
    True
  """
  checks.whole("epochs", epochs, 1)
  checks.one("alpha", alpha, 0, 1)
  if not temperature > 0:
    raise ValueError(f"temperature={temperature}: must be above 0")

  def run(params: Any, setting: Setting) -> Any:
    teacher, apply = dense(setting.teacher), setting.apply

    def objective(params: Any, x: Any, y: Any) -> jax.Array:
      return distillation.hinton(apply(dense(params), x), apply(teacher, x), y,
                            temperature=temperature, alpha=alpha)

    return _trained(params, setting, epochs, objective)

  objective = ("cj.distill.hinton(apply(cj.dense(params), x), apply(teacher, x), y, "
               f"temperature={temperature}, alpha={alpha})")
  return Step(run, _TRAINING.format(epochs=epochs, objective=objective),
              before="teacher = cj.dense(params)")


def prune(sparsity: float, *, rounds: int = 3, epochs: int = 1) -> Step:
  """Prunes by magnitude over the whole tree in rounds, and trains after each.

  Args:
    sparsity: fraction of the weights that is zero at the end, 0 to below 1.
    rounds: each leaves the same fraction of what there was.
    epochs: passes over the data after each round.

  Returns:
    The step.

  Raises:
    ValueError: a number out of range.

  Source: Han et al. 2015; Frankle and Carbin 2019, iterative magnitude pruning.

  Example:
    >>> [round(s, 3) for s in sparsities(0.875, 3)]
    [0.5, 0.75, 0.875]
  """
  # Magnitudes are ranked over the whole tree anew in each round; masks only add up.
  steps: list[Any] = []
  for reached in sparsities(sparsity, rounds):
    steps += [functools.partial(pruning.magnitude, sparsity=reached), train(epochs)]

  return Step(functools.partial(_through, steps), code(steps))


def sparsities(last: float, rounds: int) -> list[float]:
  """Returns the sparsity after each round of iterative pruning.

  Args:
    last: after the last one, 0 to below 1.
    rounds: how many.

  Returns:
    As many fractions, rising.

  Raises:
    ValueError: a number out of range.

  Example:
    >>> sparsities(0.75, 2)
    [0.5, 0.75]
  """
  checks.whole("rounds", rounds, 1)
  if not 0 <= last < 1:
    raise ValueError(f"sparsity={last}: must be from 0 to below 1")
  return [1 - (1 - last) ** (number / rounds) for number in range(1, rounds + 1)]


def calibrate(bits: int = 8) -> Step:
  """Gives every quantized layer a grid for its inputs, from what the data sends there.

  Args:
    bits: of the inputs, 2 to 16.

  Returns:
    The step.

  Raises:
    ValueError: bits out of range.

  Example:
    >>> calibrate(8)
    params = cj.quantize.calibrate(apply, params, [x for x, _ in data], bits=8)
  """
  checks.integer("bits", bits, 2, 16)

  def run(params: Any, setting: Setting) -> Any:
    data = _needed(setting.data, "data")
    return quantize.calibrate(setting.apply, params, [x for x, _ in data], bits=bits)

  return Step(run, "params = cj.quantize.calibrate(apply, params, [x for x, _ in data], "
                   f"bits={bits})")


_TRAINING = """\
tx = cj.optimize(optimizer)
state = tx.init(params)

@jax.jit
def step(params, state, x, y):
  objective = lambda params: {objective}
  grads = jax.grad(objective, allow_int=True)(params)
  updates, state = tx.update(grads, state, params)
  return cj.quantize.refit(cj.apply_updates(params, updates)), state

for _ in range({epochs}):
  for x, y in data:
    params, state = step(params, state, x, y)"""


def _trained(params: Any, setting: Setting, epochs: int, objective: Any) -> Any:
  """Returns the parameters after some epochs: what `_TRAINING` says in words of Python."""
  if not jax.tree.leaves(partition(params)[0]):
    raise ValueError("recipe: nothing of the parameters trains any more (`freeze` makes them "
                     "constants); steps that train must come before it")
  # `optimize` leaves masks and integers out of the gradient and of the optimizer's state.
  data, tx = _needed(setting.data, "data"), optimize(_needed(setting.optimizer, "optimizer"))
  state = tx.init(params)

  # Functions cannot be traced, and a Python number that is would train.
  arrays, rebuild = tree.arrays_of(params)

  @jax.jit
  def step(arrays: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any]:
    grads = jax.grad(lambda arrays: objective(rebuild(arrays), x, y), allow_int=True)(arrays)
    updates, state = tx.update(rebuild(grads), state, rebuild(arrays))
    moved = quantize.refit(apply_updates(rebuild(arrays), updates))
    return tree.arrays_of(moved)[0], state

  batches = 0
  for _ in range(epochs):
    for x, y in data:
      arrays, state = step(arrays, state, x, y)
      batches += 1
  if not batches:
    raise ValueError("data: gave no batch; must give some in every pass")
  return rebuild(arrays)


def _forward(apply: Apply, aware: bool) -> Apply:
  if aware:
    return lift(apply, exact=False)
  return lambda params, x: apply(dense(params), x)


def _needed(value: Any, name: str) -> Any:
  """Returns what a step needs of the setting, if it is there."""
  if value is None or (name == "data" and isinstance(value, Sequence) and not value):
    raise ValueError(f"{name}={value!r}: must be given, because a step of the recipe needs it")
  return value

