"""Data: the embedded digits, what is held out, bad input."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.datasets import builders


@pytest.fixture(scope="session")
def builder(tmp_path_factory):
  return builders.builder("digits", str(tmp_path_factory.mktemp("tfds")))


def test_digits_are_prepared_without_tensorflow(builder):
  import sys
  assert "tensorflow" not in sys.modules
  splits = builders.load(builder, validation=0.1, seed=0)
  assert (len(splits.train), len(splits.validation), len(splits.test)) == (1294, 144, 359)
  assert splits.train.images.dtype == np.uint8 and splits.train.images.shape[1:] == (8, 8, 1)
  assert set(splits.test.labels) == set(range(10))


def test_no_data_dir_is_the_default_folder_and_never_the_current_one(tmp_path, monkeypatch):
  (tmp_path / "here").mkdir()
  monkeypatch.chdir(tmp_path / "here")
  monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "default"))
  for data_dir in (None, ""):
    made = builders.builder("digits", data_dir)
    assert made.data_path.parent.parent == type(made.data_path)(tmp_path / "default")
  assert not list((tmp_path / "here").iterdir())


def test_two_studies_that_prepare_at_once_both_get_the_data(tmp_path, monkeypatch):
  prepare = tfds.core.DatasetBuilder.download_and_prepare

  def second(self):
    prepare(self)
    raise FileExistsError(f"{self.data_path} already exists")

  monkeypatch.setattr(builders.Digits, "download_and_prepare", second)
  made = builders.builder("digits", str(tmp_path))
  assert builders.load(made, validation=0.1, seed=0).num_classes == 10


def test_what_is_held_out_depends_on_the_seed_only(builder):
  same = [builders.load(builder, validation=0.2, seed=1) for _ in range(2)]
  np.testing.assert_array_equal(same[0].validation.images, same[1].validation.images)
  other = builders.load(builder, validation=0.2, seed=2)
  assert (other.validation.labels != same[0].validation.labels).any()
  held = {i.tobytes() for i in other.validation.images}
  assert len(held & {i.tobytes() for i in other.train.images}) <= 2  # some scans are equal


@pytest.mark.parametrize("arguments,message", [
    (("imagenet",), "data.name='imagenet': must be one of cifar10, digits, folder, mnist"),
    (("digits", "/nowhere"), "data_dir='/nowhere': is no directory")])
def test_bad_input_is_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    builders.builder(*arguments)


def test_a_catalogue_set_that_is_not_there_says_what_preparing_needs(tmp_path):
  with pytest.raises(ValueError, match=r"data.name='mnist'.*tensorflow-cpu.*--data_dir"):
    builders.builder("mnist", str(tmp_path))


def test_validation_must_leave_both_sides(builder):
  with pytest.raises(ValueError, match=r"data.validation=0.001"):
    builders.load(builder, validation=0.001, seed=0, limit=100)
