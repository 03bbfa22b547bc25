"""Parameter trees: paths, selection, and what every leaf of a tree does at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from compress_jax import checks, names
from compress_jax.leaves import dense_of, freeze_of, is_leaf, parts_of
from compress_jax.paths import path_str

Where = str | Callable[[str], bool] | None
Entry = tuple[str, Any]
Rebuild = Callable[[list[Any]], Any]


def entries(params: Any) -> tuple[list[Entry], Any]:
  """Returns what a parameter tree holds, by path.

  Args:
    params: a parameter tree.

  Returns:
    ([(path, array or leaf)], tree structure).

  Example:
    >>> entries({"a": {"b": 1}})[0]
    [('a/b', 1)]
  """
  flat, structure = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_leaf)
  return [(path_str(path), x) for path, x in flat], structure


def by_path(params: Any) -> dict[str, Any]:
  """Returns what a parameter tree holds, to be looked up by path.

  Args:
    params: a parameter tree.

  Returns:
    {path: array or leaf}, in tree order.

  Raises:
    ValueError: two of them have the same path.

  Example:
    >>> by_path({"a/b": 1, "a": {"b": 2}})
    Traceback (most recent call last):
    ...
    ValueError: 'a/b' is the path of two leaves; must be of one: rename a key with "/" in it
  """
  found: dict[str, Any] = {}
  for path, x in entries(params)[0]:
    if path in found:
      raise ValueError(f"{path!r} is the path of two leaves; must be of one: rename a key with "
                       '"/" in it')
    found[path] = x
  return found


def is_float(x: Any) -> bool:
  """Returns whether `x` is an array or leaf of floating-point numbers.

  Args:
    x: anything.

  Returns:
    True or False.
  """
  return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def is_inexact(x: Any) -> bool:
  """Returns whether `x` is an array or leaf of floating-point or complex numbers, which can train.

  Args:
    x: anything.

  Returns:
    True or False.

  Example:
    >>> is_inexact(jnp.ones(2, complex)), is_inexact(jnp.ones(2, int))
    (True, False)
  """
  return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)


def matcher(where: Where) -> Callable[[str, Any], bool]:
  """Returns the predicate on (path, leaf) that a `where=` argument stands for.

  Args:
    where: a regular expression searched for in the path, a predicate on the
      path, or None for every weight: what has two or more dimensions and no name of
      a bias or of a norm's parameters (`names.is_weight`). `select` leaves out
      statistics, too, and what lies beside a weight as its bias does (`names.biases_and_norms`).

  Returns:
    A function of (path, leaf).

  Raises:
    ValueError: `where` is something else, empty, or no regular expression.
  """
  if where is None:
    return names.is_weight
  if callable(where):
    return lambda path, x: bool(where(path))
  if where == "":
    raise ValueError("where='': an empty pattern; must be '.' for every leaf, or None for the "
                     "default")
  try:
    pattern = re.compile(where)
  except (TypeError, re.error) as error:
    raise ValueError(f"where={where!r}: must be a regular expression or a predicate on the path "
                     f"({error})") from None
  return lambda path, x: pattern.search(path) is not None


def select(params: Any, where: Where) -> tuple[list[Entry], Rebuild]:
  """Picks the leaves that a transform takes.

  Args:
    params: a parameter tree.
    where: see `matcher`.

  Returns:
    [(path, array or leaf)] of the selected floating-point leaves, in tree order,
    and a function from as many new leaves to the new tree.

  Raises:
    ValueError: nothing matches, or a complex array does, which no transform takes.
  """
  flat, structure = entries(params)
  match = matcher(where)
  if where is not None and where is not everything:
    _check_real(flat, match)
  # Running means, biases and norms of a stack of layers have two dimensions.
  fixed = _no_weights(flat) if where is None else set()
  chosen = [i for i, (path, x) in enumerate(flat)
            if is_float(x) and match(path, x) and path not in fixed]
  if not chosen:
    raise ValueError(_nothing_chosen(where, flat))

  selected = [(flat[i][0], _canonical(flat[i][1])) for i in chosen]
  return selected, putting([x for _, x in flat], chosen, structure)


def putting(values: list[Any], places: list[int], structure: Any) -> Rebuild:
  """Returns a function that makes a tree with new values at some of its places.

  Args:
    values: what the tree holds, in its order.
    places: where new ones come, as positions among `values`.
    structure: of the tree.

  Returns:
    A function from as many new values as there are places to the tree.

  Example:
    >>> putting([1, 2], [1], jax.tree.structure({"a": 0, "b": 0}))([3])
    {'a': 1, 'b': 3}
  """
  def rebuild(new: list[Any]) -> Any:
    out = list(values)
    for i, x in zip(places, new, strict=True):
      out[i] = x
    return jax.tree.unflatten(structure, out)

  return rebuild


def _no_weights(flat: list[Entry]) -> set[str]:
  """Returns the paths of what is no weight, as what lies beside it tells."""
  shapes = {path: tuple(x.shape) for path, x in flat if hasattr(x, "shape")}
  return names.statistics([path for path, _ in flat]) | names.biases_and_norms(shapes)


def _check_real(flat: list[Entry], match: Callable[[str, Any], bool]) -> None:
  """Raises where leaves that a `where=` names are complex: the default passes over them."""
  for path, x in flat:
    # A predicate is asked about nothing else that no transform takes.
    if is_inexact(x) and not is_float(x) and match(path, x):
      raise ValueError(f"{path}: {x.dtype}, and matched by where=; must be floating-point: keep "
                       "real and imaginary parts apart, or leave it out of where=")


def _canonical(x: Any) -> Any:
  """Returns an array of the dtype that JAX computes with: NumPy's float64 is float32 to it."""
  if is_leaf(x) or jax.dtypes.canonicalize_dtype(x.dtype) == x.dtype:
    return x
  return jnp.asarray(x)


def named_as_weights(params: Any, *, leave_out: str | Callable[[str], bool]
                     ) -> Callable[[str], bool]:
  """Returns the default of `where=` without some of its leaves.

  A pattern as `where=` takes the default's place, biases and statistics included; this
  keeps to weights.

  Args:
    params: a parameter tree.
    leave_out: a regular expression searched for in the path, or a predicate on the path.

  Returns:
    A predicate on paths.

  Raises:
    ValueError: no weight matches `leave_out`, or all do.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = {"shift": jnp.ones((1, 2)), "w": jnp.eye(2), "bias": jnp.ones(2)}
    >>> where = cj.named_as_weights(params, leave_out="shift")
    >>> [path for path in params if where(path)]
    ['w']
  """
  weights, left_out = select(params, None)[0], matcher(leave_out)
  kept = frozenset(path for path, x in weights if not left_out(path, x))
  if len(kept) in (0, len(weights)):
    shown = ", ".join(path for path, _ in weights[:8])
    raise ValueError(f"leave_out={leave_out!r}: matches {len(weights) - len(kept)} weights; must "
                     f"match some, but not all, of: {shown}")
  return kept.__contains__


def _nothing_chosen(where: Where, flat: list[Entry]) -> str:
  some = ", ".join(path for path, _ in flat[:8]) or "an empty tree"
  if where is None:
    return ("where=None matches no floating-point leaf: none of two or more dimensions has the "
            f"name of a weight; where='.' takes all; a pattern must match one of: {some}")
  asked = "where" if where is everything else f"where={where!r}"
  return f"{asked} matches no floating-point leaf; must match one of: {some}"


def select_parts(params: Any, where: Where) -> tuple[list[Entry], Rebuild]:
  """Picks leaves like `select`, but the factors of a leaf that has them (`Leaf.parts`).

  Args:
    params: a parameter tree.
    where: see `matcher`; it sees the paths of leaves, not of their factors.

  Returns:
    [(path, array or leaf)], where a factor's path ends in its field's name, and a
    function from as many new ones to the new tree.

  Raises:
    ValueError: nothing matches.
  """
  chosen, rebuild = select(params, where)
  flat = []
  for path, x in chosen:
    for name, part in parts_of(x).items():
      flat.append((f"{path}/{name}" if name else path, part))

  def rebuild_parts(new: list[Any]) -> Any:
    coming, leaves = iter(new), []
    for _, x in chosen:
      made = {name: next(coming) for name in parts_of(x)}
      # Under no name the leaf is its own only part.
      leaves.append(made[""] if "" in made else x.replace(**made))
    return rebuild(leaves)

  return flat, rebuild_parts


def transform(params: Any, where: Where, change: Callable[[str, Any], Any]) -> Any:
  """Changes the selected leaves of a tree, or the factors of those that have them.

  Args:
    params: a parameter tree.
    where: a regular expression searched for in the path, a predicate on the path, or None
      for every weight: what has two or more dimensions, and no name of a bias, of a norm's
      parameters or of a statistic.
    change: (path, array or leaf) -> what takes its place.

  Returns:
    The new tree.

  Raises:
    ValueError: nothing matches.
    UnsupportedError: a leaf cannot be changed so; the message names its path.

  Example:
    >>> import jax.numpy as jnp
    >>> transform({"w": jnp.ones((1, 2)), "b": jnp.ones(2)}, None, lambda path, x: 2 * x)["w"]
    Array([[2., 2.]], dtype=float32)
  """
  chosen, rebuild = select_parts(params, where)
  changed = []
  for path, x in chosen:
    with checks.taken([path], where is None), checks.at(path):
      changed.append(change(path, x))
  return rebuild(changed)


def everything(path: str) -> bool:
  """Is the `where=` that selects every floating-point leaf, whatever its dimensions.

  Args:
    path: of a leaf.

  Returns:
    True.
  """
  return True


def arrays_of(params: Any) -> tuple[list[Any], Rebuild]:
  """Separates the arrays of a tree from what a compiled program cannot take.

  Args:
    params: any tree; a model's module may hold functions and strings, too.

  Returns:
    (its arrays, a function from as many new ones to the new tree).

  Example:
    >>> arrays, rebuild = arrays_of({"fn": len, "w": jnp.ones(2)})
    >>> rebuild([2 * x for x in arrays])
    {'fn': <built-in function len>, 'w': Array([2., 2.], dtype=float32)}
  """
  flat, structure = jax.tree.flatten(params)
  places = [i for i, x in enumerate(flat) if hasattr(x, "dtype")]
  return [flat[i] for i in places], putting(flat, places, structure)


def dense(params: Any) -> Any:
  """Replaces every compressed leaf by the array it stands for.

  Args:
    params: a parameter tree.

  Returns:
    The same tree with plain arrays; differentiable in what trains.

  Raises:
    ValueError: a leaf has no array; the message names its path.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = {"w": cj.Masked(jnp.ones(2), jnp.array([True, False]))}
    >>> cj.dense(params)["w"].tolist()
    [1.0, 0.0]
  """
  return _each(dense_of, params)


def freeze(params: Any) -> Any:
  """Replaces every trainable leaf by its deployed form.

  Args:
    params: a parameter tree.

  Returns:
    A tree whose `dense` has the same bits.

  Raises:
    ValueError: a number that decides how integers are stored is traced, or a weight is
      NaN; the message names the leaf's path.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> type(cj.freeze(cj.quantize.affine({"w": jnp.eye(2)}, bits=8))["w"]).__name__
    'Quantized'
  """
  return _each(freeze_of, params)


def _each(change: Callable[[Any], Any], params: Any) -> Any:
  """Changes every leaf and array; the error of one has its path in front."""
  def one(path: tuple[Any, ...], x: Any) -> Any:
    with checks.of_leaf(path_str(path)):
      return change(x)

  return jax.tree_util.tree_map_with_path(one, params, is_leaf=is_leaf)
