"""A workdir of three stages, tiny, and a damaged copy of anything."""

import shutil

import jax
import jax.numpy as jnp
import pytest

import compress_jax as cj


def stage(workdir, name, params, parent=None, **metrics):
  """Runs a stage that gives `params`, with its artifact, and returns it."""
  made = cj.stages.Stage(name=name, spec={"technique": name}, parent=parent)

  def work(directory):
    size = cj.artifact.save(directory / "model.cjx", params)
    return params, {"artifact_bytes": size, "gzip_bytes": cj.size(params).gzip, **metrics}

  cj.stages.run(made, workdir, work)
  return made


@pytest.fixture(scope="session")
def trees():
  """The trees of base, imp and imp+q."""
  keys = jax.random.split(jax.random.key(0, impl="rbg"), 2)
  base = {"stem": {"kernel": jax.random.normal(keys[0], (3, 3, 4, 8)), "bias": jnp.zeros(8)},
          "head": {"kernel": jax.random.normal(keys[1], (16, 6))}}
  imp = cj.prune.magnitude(base, 0.75)
  return {"base": base, "imp": imp, "imp+q": cj.quantize.affine(imp, 4)}


@pytest.fixture(scope="session")
def made(tmp_path_factory, trees):
  """(workdir, {name: stage}), not to be changed."""
  workdir, stages, parent = tmp_path_factory.mktemp("made"), {}, None
  accuracy = {"base": 0.9, "imp": 0.8, "imp+q": 0.7}
  for name, params in trees.items():
    history = [{"loss": 2.0, "val_accuracy": 0.5}, {"loss": float("nan"), "val_accuracy": 0.6}]
    parent = stages[name] = stage(workdir, name, params, parent, test_accuracy=accuracy[name],
                                  history=history)
  return workdir, stages


@pytest.fixture
def workdir(made, tmp_path):
  """A copy of the workdir, to be damaged."""
  shutil.copytree(made[0], tmp_path / "study")
  return tmp_path / "study"


def poison(directory):
  """Overwrites everything that holds weights; sizes stay."""
  files = [p for p in directory.rglob("*") if p.is_file() and (
      "arrays" in p.parts or p.suffix == ".cjx")]
  assert files
  for file in files:
    file.write_bytes(b"\xff" * file.stat().st_size)
