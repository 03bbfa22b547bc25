"""What each choice does to a model when only one layer takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from compress_jax import tree
from compress_jax.io import artifact
from compress_jax.search.choices import Choice, Options, applier, compressed, known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """One number of the model for every layer and choice, the other layers as they are.

  Attributes:
    base: the number of the untouched model.
    scores: {path: {choice: number}}.
  """

  base: float
  scores: Mapping[str, Mapping[Choice, float]]


def sensitivity(params: Any, evaluate: Callable[[Any], float], choices: Options, *,
                progress: Callable[[int, int], object] | None = None) -> Table:
  """Measures the model with one layer compressed by one choice, for all of them.

  Args:
    params: a parameter tree.
    evaluate: from a parameter tree (with leaves; `dense` makes it plain) to a
      number: accuracy on held-out data, log-likelihood, milliseconds, …
    choices: {path: choices}, from `options`.
    progress: is called after every layer with how many are done, and all.

  Returns:
    The table.

  Raises:
    ValueError: a path that is not in the tree, or a rank that a layer cannot have.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = {"a": jnp.ones((2, 2)), "b": 2 * jnp.ones((2, 2))}
    >>> total = lambda p: float(sum(x.sum() for x in cj.dense(p).values()))
    >>> table = sensitivity(params, total, {"a": [Choice(sparsity=0.5)], "b": [Choice(bits=8)]})
    >>> table.base, list(table.scores["a"].values()), list(table.scores["b"].values())
    (12.0, [10.0], [12.0])
  """
  named = lambda p: {"score": evaluate(p)}
  return sensitivities(params, named, choices, progress=progress)["score"]


def sensitivities(params: Any, evaluate: Callable[[Any], Mapping[str, float]], choices: Options, *,
                  progress: Callable[[int, int], object] | None = None) -> dict[str, Table]:
  """Measures several numbers of each model at once, as `sensitivity` does one.

  Args:
    params: a parameter tree.
    evaluate: from a parameter tree to {name: number}, the same names every time.
    choices: {path: choices}, from `options`.
    progress: is called after every layer with how many are done, and all.

  Returns:
    {name: table}.

  Raises:
    ValueError: a path that is not in the tree, or a rank that a layer cannot have.
  """
  make, base = applier(params), evaluate(params)
  scores: dict[str, dict[str, dict[Choice, float]]] = {name: {} for name in base}
  for done, (path, some) in enumerate(choices.items(), start=1):
    for by_path in scores.values():
      by_path[path] = {}
    for choice in some:
      # The untouched model was evaluated already.
      found = base if choice == Choice() else evaluate(make({path: choice}))
      for name, by_path in scores.items():
        by_path[path][choice] = float(found[name])
    if progress:
      progress(done, len(choices))
  return {name: Table(base=float(base[name]), scores=scores[name]) for name in base}


def layer_bytes(params: Any, choices: Options) -> dict[str, dict[Choice, int]]:
  """Returns what each layer takes in an artifact, by choice.

  Args:
    params: a parameter tree.
    choices: {path: choices}.

  Returns:
    {path: {choice: bytes}}: the file of that leaf alone, less an empty file. Files
    of whole models differ from the sum by some tens of bytes a layer: their headers are
    compressed together.

  Raises:
    ValueError: a path that is not in the tree, or a rank that a layer cannot have.

  Example:
    >>> import jax
    >>> params = {"w": jax.random.normal(jax.random.key(0), (64, 64))}
    >>> found = layer_bytes(params, {"w": [Choice(), Choice(bits=2)]})["w"]
    >>> found[Choice()] > 10 * found[Choice(bits=2)]
    True
  """
  by_path = tree.by_path(params)
  empty = len(artifact.encode({}))
  found: dict[str, dict[Choice, int]] = {}
  for path, some in choices.items():
    found[path], leaf = {}, known("choices", path, by_path)
    for choice in some:
      data = artifact.encode({"leaf": compressed(path, leaf, choice)})
      found[path][choice] = len(data) - empty
  return found
