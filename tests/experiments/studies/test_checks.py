"""One table of fields: every study refuses what cannot be used, and names the field."""

import importlib
import math
import runpy

import pytest
from ml_collections import ConfigDict

from configs import common
from experiments.datasets import builders
from experiments.studies import checks, combo, rules

CONFIGS = [f"configs/{name}.py:{arg}" for name, arg in (
    ("combo", "digits,smoke"), ("joint", "digits,smoke"), ("grid", "mnist,smoke"),
    ("suggest", "digits,smoke"), ("vgg16_cifar10", "smoke"), ("takeaways", "smoke"),
    ("birds", "smoke"), ("airnet", "digits,smoke"))]


def loaded(config):
  file, _, arg = config.partition(":")
  made = runpy.run_path(file)["get_config"](arg).unlock()
  if "max_bytes" in made:
    made.max_bytes = 1000
  study = importlib.import_module(made.study.rpartition(".study.")[0])
  module = importlib.import_module(f"{study.__name__}.config")
  return made, module.check, getattr(module, "FIELDS", {})


def put(config, path, value):
  *parts, last = path.split(".")
  for part in parts:
    config = config[part]
  del config[last]  # else an int put in a float's place becomes a float
  config[last] = value


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_has_a_rule_and_what_is_there_may_be(config):
  made, check, own = loaded(config)
  check(made)
  paths = [path for path, _ in checks.fields(made)]
  assert [path for path in paths if checks.rule(path, own) is None] == []
  assert len(paths) > 20


@pytest.mark.sampled(3)
@pytest.mark.parametrize("config", CONFIGS)
def test_every_number_is_refused_outside_its_limits_and_named(config):
  made, check, own = loaded(config)
  tried = 0
  for path, before in checks.fields(made):
    rule = checks.rule(path, own)
    if not isinstance(rule, rules.Number):
      continue
    bad = [rule.low - 1, rule.high * 2, math.nan, "text", True]
    for value in [*bad, 2.5] if rule.whole else bad:
      put(made, path, value)
      with pytest.raises(ValueError, match=f"config.{path}.*must be"):
        check(made)
      tried += 1
    put(made, path, before)
  assert tried > 50


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("field,value,message", [
    ("compute_dtype", "fp16", "config.compute_dtype='fp16': must be one of auto, float32, bf"),
    ("seed", -1, "config.seed=-1: must be a whole number from 0"),
    ("seeds", 0, "config.seeds=0: must be a whole number from 1"),
    ("combo", 1, "config.combo=1: must be true or false")])
def test_shared_fields_are_checked_by_every_study(config, field, value, message):
  made, check, _ = loaded(config)
  put(made, field, value)
  with pytest.raises(ValueError, match=message):
    check(made)


def test_fields_of_combinations_beside_a_study_are_named_as_the_user_gives_them():
  made, _, _ = loaded("configs/joint.py:digits,smoke")
  made.combine.combos = "base,nothing"
  with pytest.raises(ValueError, match="config.combine.combos='nothing': must be all, base"):
    combo.config.check(combo.beside(made))
  made.combine.update({"combos": "all", "student": {"name": "nothing"}})
  with pytest.raises(ValueError, match="config.combine.student: model 'nothing': must be one of"):
    combo.config.check_models(combo.beside(made), builders.builder("digits"))


def test_models_that_cannot_be_made_are_named_before_anything_runs():
  made, _, _ = loaded("configs/vgg16_cifar10.py:smoke")
  made.student.arguments.groups = (("wide",),)
  with pytest.raises(ValueError, match="config.student: "):
    checks.model_shapes(made, builders.builder("digits"))


@pytest.mark.parametrize("model", [
    common.model("vgg"), common.model("studentnet"),
    common.model("convnet", widths=(4, 4, 4, 4), hidden=(8,))], ids=lambda model: model.name)
def test_models_in_which_images_shrink_to_nothing_are_refused(model):
  # Eight pixels: halved four times, nothing is left.
  with pytest.raises(ValueError, match=r"config.model: images of 8 x 8 pixels shrink to nothing"):
    checks.model_shapes(ConfigDict({"model": model}), builders.builder("digits"))


def test_flips_that_alternate_need_flips():
  made, check, _ = loaded("configs/airnet.py:digits,smoke")
  made.data.augment.update({"flip": False, "alternating": True})
  with pytest.raises(ValueError, match="alternating=True: does nothing without --config.*flip"):
    check(made)


def test_the_same_value_twice_is_refused():
  made, check, _ = loaded("configs/vgg16_cifar10.py:smoke")
  made.ratios = (0.5, 0.50)
  with pytest.raises(ValueError, match="config.ratios=.*: must be different values"):
    check(made)


def test_a_size_of_images_needs_a_folder():
  made, check, _ = loaded("configs/combo.py:digits,smoke")
  made.data.side = 32
  with pytest.raises(ValueError, match="config.data.side=32: does nothing without --config.data"):
    check(made)
