"""What all studies do with their stages, by one whose stages take no time."""

import numpy as np
import pytest
from ml_collections import ConfigDict

import compress_jax as cj
from experiments import cpu, faults
from experiments.datasets import builders
from experiments.studies import base, measured
from experiments.studies.manner import Manner


class Toy(base.Study):
  """A base model and a smaller one; what is measured of them depends on a setting."""

  names = ("base", "small")

  def parent(self, name):
    return None if name == "base" else "base"

  def spec(self, name):
    return {}

  @property
  def measuring(self):
    return self.fields("batch")

  def measure(self, name, trained):
    return {"milliseconds": 1.5 * self.config.batch}

  def trained(self, name):
    return self.result(name).load()

  def _work(self, name, directory):
    params = {"w": np.ones(8 - len(name), np.float32)}
    size = cj.artifact.save(directory / "model.cjx", params)
    self.stages_run += 1
    return params, {**dict.fromkeys(base.SIZES, 32), "artifact_bytes": size,
                    "test_accuracy": 0.9, "val_accuracy": 0.9}


@pytest.fixture(scope="module")
def digits():
  return builders.builder("digits")


@pytest.fixture
def study(tmp_path, digits):
  def make(kind=Toy, batch=1):
    config = ConfigDict({"compute_dtype": "float32", "batch": batch, "data": {"name": "digits"}})
    return kind(config, tmp_path, digits, 0, tmp_path, Manner(worker=True))

  return make


def test_what_another_machine_timed_is_timed_again(monkeypatch):
  here = measured.machine()
  assert measured.machine() == here
  monkeypatch.setattr(cpu, "name", lambda: "another")
  assert measured.machine() != here


def test_studies_that_share_stages_have_measurements_of_their_own(study):
  first, second = study(), study(batch=64)
  assert [row["milliseconds"] for row in first.rows()] == [1.5, 1.5]
  assert [row["milliseconds"] for row in second.rows()] == [96.0, 96.0]
  assert (first.stages_run, second.stages_run) == (2, 0)
  # What was measured stays, as far as it can be read.
  third = study()
  third.measure = lambda name, trained: {"milliseconds": 7.0}
  directory = first.result("small").directory
  damaged = min((directory / "measured").iterdir(), key=lambda file: "64" in file.read_text())
  damaged.write_text(damaged.read_text().replace("1.5", "1.6"))
  assert [row["milliseconds"] for row in third.rows()] == [1.5, 7.0]
  assert cj.stages.find(first.stage("small"), first.workdir) is not None


def test_a_stage_that_failed_here_and_was_completed_elsewhere_is_complete(study):
  class Poor(Toy):
    """Has no memory left."""

    def _work(self, name, directory):
      raise MemoryError("no memory left")

  poor, rich = study(Poor), study()
  assert not poor.has("small") and poor.failed and poor.skipped
  with pytest.raises(faults.StageFailed, match="base: .*no memory left"):
    poor.result("base")
  rich.rows()
  assert len(poor.rows()) == 2 and not poor.failed and not poor.skipped
