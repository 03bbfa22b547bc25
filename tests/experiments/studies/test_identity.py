"""Whatever a result depends on is part of the identity of a stage, or of what is measured of it."""

import importlib
import json
import runpy
import types

import pytest

from experiments import cpu, settings
from experiments.datasets import builders
from experiments.studies.manner import Manner
from tests.experiments.studies.test_checks import put

STUDIES = {"combo.py:digits,smoke": "Combinations", "joint.py:digits,smoke": "JointStudy",
           "grid.py:mnist,smoke": "Grid", "suggest.py:digits,smoke": "Suggest",
           "vgg16_cifar10.py:smoke": "VGG16", "takeaways.py:smoke": "Takeaways",
           "birds.py:smoke": "Birds"}
# Which stages there are, how many seeds, what is run beside them, and where: no result of a stage.
NO_RESULT = {"study", "seeds", "combo", "combos", "mesh.fsdp", "compare_steps", "deploy"}
# What all studies share; a base model depends on nothing else.
OF_BASE = ("data", "base", "model", "teacher", "seed", "compute_dtype", "weights")


def config(name):
  file, _, argument = name.partition(":")
  made = runpy.run_path(f"configs/{file}")["get_config"](argument).unlock()
  made.compute_dtype = "float32"  # as on a machine that has chosen
  if "prune" in made:
    made.prune.grid = ("layer-l1", "global-l2")  # both penalties
  return made


def other(value):
  """Returns another value of a field's type; it need not be one that a study could run with."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, str):
    return value + "x"
  if isinstance(value, float):
    return value / 2 + 0.125  # a fraction stays one
  if isinstance(value, int | None):
    return 3 if value is None else value + 1
  return value[:-1] if value else (7,)


def identities(name, made, workdir):
  """Returns {stage: digest}, and what measurements depend on; nothing runs."""
  module = importlib.import_module(made.study.rpartition(".")[0])
  study = getattr(module, STUDIES[name])(made, workdir, builders.builder("digits"), made.seed,
                                         None, Manner(looks="plan"))
  # Which of its plans `suggest` deploys it knows only after its search.
  names = ["sensitivity", "search", "best"] if "search" in made else [*study.names, *study.more]
  found = {each: study.stage(each).digest for each in ("base", *names)}
  return found, json.dumps(dict(study.measuring), sort_keys=True)


@pytest.mark.parametrize("name", STUDIES)
def test_every_field_is_part_of_some_identity_and_the_base_models_of_few(name, tmp_path):
  before = identities(name, config(name), tmp_path)
  for path, value in list(settings.flat(config(name).to_dict())):
    # `combine` is of another study, and of a file of weights it is the content that counts.
    if path in NO_RESULT or path.startswith("combine.") or path == "weights":
      continue
    made = config(name)
    put(made, path, other(value))
    stages, measuring = identities(name, made, tmp_path)
    assert (stages, measuring) != before, f"{path} changes nothing: results would be mixed"
    if path.split(".")[0] not in OF_BASE:
      assert stages["base"] == before[0]["base"], f"{path} trains the base model again"
    elif path.split(".")[0] in ("data", "seed", "compute_dtype"):
      assert not set(stages.values()) & set(before[0].values()), f"{path} must change all stages"


@pytest.mark.parametrize("name", [name for name in STUDIES if name[:2] in ("su", "vg", "ta", "bi")])
def test_what_was_timed_on_another_machine_is_timed_again(name, tmp_path, monkeypatch):
  before = identities(name, config(name), tmp_path)
  monkeypatch.setattr(cpu, "name", lambda: "another")
  stages, measuring = identities(name, config(name), tmp_path)
  assert stages == before[0] and measuring != before[1]


def test_a_fingerprint_tells_data_sets_of_other_contents_apart():
  def made(version="1.0.0", images=60000, size=100):
    split = types.SimpleNamespace(num_examples=images, num_bytes=size)
    return types.SimpleNamespace(name="mnist", info=types.SimpleNamespace(
        full_name=f"mnist/{version}", splits={"train": split}))
  found = {builders.fingerprint(each) for each in (
      made(), made("3.0.1"), made(images=59999), made(size=101))}
  assert len(found) == 4 and builders.fingerprint(made()) in found
