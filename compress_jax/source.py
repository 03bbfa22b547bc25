"""Python that calls functions of this package, as one would write it."""

from __future__ import annotations

import ast
import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any


def call(function: Callable[..., Any]) -> str:
  """Returns the call of a function, or of one with some arguments given, on `params`.

  Args:
    function: of this package, or one of the user's with a name; a `functools.partial` of it.

  Returns:
    A line of Python.

  Raises:
    ValueError: a function without a name, or an argument that cannot be written down.

  Example:
    >>> import compress_jax as cj
    >>> call(functools.partial(cj.prune.magnitude, sparsity=0.5))
    'params = cj.prune.magnitude(params, sparsity=0.5)'
  """
  if not isinstance(function, functools.partial):
    return f"params = {name(function)}(params)"
  given = [*map(literal, function.args), "params"]
  given += [f"{key}={literal(value)}" for key, value in function.keywords.items()]
  return f"params = {name(function.func)}({', '.join(given)})"


def name(thing: Any) -> str:
  """Returns what a function or class is called by who wrote `import compress_jax as cj`.

  Args:
    thing: the function or class.

  Returns:
    Its name; with "cj." in front where it is this package's.

  Raises:
    ValueError: it has none: a lambda, or something inside a function.

  Example:
    >>> import compress_jax as cj
    >>> name(cj.search.apply), name(cj.freeze), name(len)
    ('cj.search.apply', 'cj.freeze', 'len')
  """
  import compress_jax as cj  # late: it imports this module

  modules = {"cj": cj}
  for key in cj.__all__:
    if isinstance(getattr(cj, key), types.ModuleType):
      modules[f"cj.{key}"] = getattr(cj, key)
  for prefix, module in modules.items():
    for key, found in vars(module).items():
      if found is thing and not key.startswith("_"):
        return f"{prefix}.{key}"
  own = getattr(thing, "__qualname__", "<no function>")
  if "<" in own:
    raise ValueError(f"{thing!r} has no name that code could call it by; must be a function "
                     "with a name, or a functools.partial of one")
  return own


def literal(value: Any) -> str:
  """Returns a value as Python that makes it.

  Args:
    value: numbers, texts and such, in lists, tuples and dicts; functions with a name; this
      package's dataclasses.

  Returns:
    An expression.

  Raises:
    ValueError: it is something else.

  Example:
    >>> import compress_jax as cj
    >>> literal({"w": cj.search.Choice(bits=8)})
    "{'w': cj.search.Choice(sparsity=0.0, bits=8, rank=None, axis=-1)}"
  """
  if isinstance(value, Mapping):
    return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
  if type(value) in (list, tuple):
    inner = ", ".join(map(literal, value))
    if isinstance(value, list):
      return f"[{inner}]"
    return f"({inner},)" if len(value) == 1 else f"({inner})"
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = [f"{field.name}={literal(getattr(value, field.name))}"
              for field in dataclasses.fields(value)]
    return f"{name(type(value))}({', '.join(fields)})"
  if callable(value):
    return name(value)
  try:
    ast.literal_eval(repr(value))
  except (ValueError, SyntaxError):
    raise ValueError(f"{type(value).__name__}: an argument that cannot be written as Python; "
                     "must be of plain values") from None
  return repr(value)
