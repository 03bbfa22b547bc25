"""Configurations: flags change what they name, and nothing else."""

import contextlib
import importlib
from pathlib import Path

import pytest
from ml_collections import ConfigDict

CONFIGS = sorted(path.stem for path in Path(__file__).parent.parent.glob("configs/*.py")
                 if path.stem not in ("__init__", "common"))
BUDGETS = ("full", "gpu", "overnight", "short", "smoke")
DATA = ("digits", "mnist", "cifar10")


def made(name):
  """Returns {argument: configuration} of all arguments that a file in configs/ takes."""
  get_config, found = importlib.import_module(f"configs.{name}").get_config, {}
  for argument in (*BUDGETS, *(f"{data},{budget}" for data in DATA for budget in BUDGETS)):
    with contextlib.suppress(ValueError):  # another file's
      found[argument] = get_config(argument)
  return found


def parts(config, before=""):
  """Yields (path, part) of all parts of a configuration."""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield before + name, value
      yield from parts(value, f"{before}{name}.")


@pytest.mark.parametrize("name", CONFIGS)
def test_no_two_parts_are_one_object(name):
  found = made(name)
  assert found
  for argument, config in found.items():
    places = {}
    for path, part in parts(config):
      assert places.setdefault(id(part), path) == path, f"{argument}: {places[id(part)]} is {path}"


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_changed_in_one_configuration_is_not_in_the_next(name):
  argument, config = next(iter(made(name).items()))
  path, part = max(parts(config), key=lambda found: found[0].count("."))  # one of the deepest
  with part.unlocked():
    part.changed = True
  again = importlib.import_module(f"configs.{name}").get_config(argument)
  assert "changed" not in dict(parts(again))[path]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_budget_passes_its_studys_check(name):
  for config in made(name).values():
    if "max_bytes" in config:
      with config.unlocked():
        config.max_bytes = 1000  # a limit must be given
    study = config.study.rpartition(".study.")[0]
    importlib.import_module(f"{study}.config").check(config)
