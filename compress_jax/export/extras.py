"""Optional packages: imported when they are needed, named when they are missing."""

from __future__ import annotations

import importlib
from typing import Any


def need(module: str, extra: str) -> Any:
  """Imports a module of an optional package.

  Args:
    module: its dotted name.
    extra: which extra of this package installs it.

  Returns:
    The module.

  Raises:
    ImportError: it is not installed; the message says how to.

  Example:
    >>> need("json", "any").dumps([1])
    '[1]'
  """
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    if error.name != module.split(".")[0]:
      raise
    raise ImportError(f"{error.name} is not installed: pip install compress_jax[{extra}]",
                      name=error.name) from None
