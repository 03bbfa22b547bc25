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
  package = module.split(".")[0]
  try:
    importlib.import_module(package)
  except ModuleNotFoundError as error:
    if error.name != package:
      raise
    raise ImportError(f"{package} is not installed: pip install compress_jax[{extra}]",
                      name=package) from None
  return importlib.import_module(module)
