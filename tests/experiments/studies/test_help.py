"""Help: every field of every configuration is there, with what it may be, and lines fit."""

import itertools
import re
import runpy
import subprocess
import sys

import pytest

from experiments import settings
from experiments.studies import help

SIZES = ("full", "short", "smoke")
DATA = {"airnet": ("cifar10", "digits"),
        "combo": ("digits", "mnist", "cifar10"), "grid": ("mnist", "cifar10"),
        "joint": ("digits", "mnist", "cifar10"), "suggest": ("digits", "mnist", "cifar10"),
        "birds": ("",), "takeaways": ("",), "vgg16_cifar10": ("",)}
OVERNIGHT = [("birds", "overnight"), ("combo", "cifar10,overnight"), ("grid", "cifar10,overnight"),
             ("takeaways", "overnight"), ("vgg16_cifar10", "overnight")]
# AirNet's full training is short already.
ARGUMENTS = [(name, ",".join(filter(None, argument))) for name, data in DATA.items()
             for argument in itertools.product(data, SIZES)
             if (name, argument[1]) != ("airnet", "short")]
FLAGS = {"--config=": "The study.", "--repair": "Remove what is damaged. " * 9}


def loaded(name, argument):
  return runpy.run_path(f"configs/{name}.py")["get_config"](argument)


def test_the_configurations_here_are_all_there_are():
  assert [f"configs/{name}.py" for name in sorted(DATA)] == help.studies()


@pytest.mark.parametrize("name,argument", ARGUMENTS + OVERNIGHT)
def test_every_field_has_a_rule_and_is_shown_with_it(name, argument):
  config = loaded(name, argument)
  found = {field.path: field for field in help.fields(config)}  # raises where there is no rule
  assert list(found) == [path for path, _ in settings.flat(config)]
  text = help.of_config(f"configs/{name}.py:{argument}", config, FLAGS, 120)
  rows = dict(re.findall(r"^  --config\.(\S+)=(.*(?:\n {10,}.*)*)", text, re.MULTILINE))
  for path, field in found.items():
    row = " ".join(rows[path].split())
    assert row == " ".join(f"{field.shown} {field.text}".split()) and field.text
  assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", DATA)
def test_lines_fit_a_narrow_terminal(name):
  config = loaded(name, DATA[name][0])
  text = help.of_config(f"configs/{name}.py", config, FLAGS, 80)
  fields = text.partition("Fields: ")[2]
  assert all(f"\n  {field.flag}" in fields for field in help.fields(config))
  assert max(map(len, fields.splitlines())) <= 80


def test_a_field_without_a_rule_is_named():
  config = loaded("joint", "digits").unlock()
  config.new_field = 3
  with pytest.raises(LookupError, match="config.new_field: has no rule; .*joint.config.FIELDS"):
    help.fields(config)


def test_the_overview_names_all_studies_and_needs_no_jax():
  code = ("import sys; from experiments.studies import help; print(help.overview("
          "{'--config=': 'The study.'}, 120)); sys.exit('jax' in sys.modules)")
  text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                        check=True).stdout
  assert all(f"\n  configs/{name}.py " in text for name in DATA)
  assert max(map(len, text.splitlines())) <= 120
