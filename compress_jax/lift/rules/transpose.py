"""The rule of `transpose`: a weight is only laid out anew."""

from __future__ import annotations

import dataclasses
from typing import Any

from jax.extend.core import primitives

from compress_jax.leaves import UnsupportedError
from compress_jax.leaves.base import transposed
from compress_jax.lift.registry import NoRule, Ref, register


def _transpose(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  try:
    leaf = transposed(x.leaf, equation.params["permutation"])
  except UnsupportedError as error:
    raise NoRule(equation.primitive.name, x.path, str(error)) from None
  return [dataclasses.replace(x, leaf=leaf)]


register(primitives.transpose_p, None)(_transpose)
