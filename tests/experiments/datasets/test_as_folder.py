"""A data set written as a folder is read back by the study of folders."""

import numpy as np
import pytest

from experiments.datasets import as_folder, builders


def test_digits_become_a_folder_of_images(tmp_path):
  root = tmp_path / "images"
  assert as_folder.write("digits", root, side=16, data_dir=str(tmp_path), limit=200) == 400
  builder = builders.builder("folder", str(root), 16)
  data = builders.load(builder, validation=0.25, seed=0)
  assert (len(data.train), len(data.validation), len(data.test)) == (150, 50, 200)
  assert data.num_classes == 10
  digits = builders.load(builders.builder("digits", str(tmp_path)), validation=0.25, seed=0)
  # Of the same label at the same place, and alike when shrunk again.
  for number in range(3):
    pixels = np.asarray(data.test.read(np.array([number])))[0]
    shrunk = pixels.reshape(8, 2, 8, 2, 3).mean((1, 3, 4))
    alike = [np.corrcoef(shrunk.ravel(), image.ravel().astype(float))[0, 1]
             for image in digits.test.images[:200]]
    best = int(np.argmax(alike))
    assert max(alike) > 0.9 and digits.test.labels[best] == data.test.labels[number]


def test_nothing_is_left_of_a_folder_that_could_not_be_written(tmp_path, monkeypatch):
  saved, real = [], as_folder._save
  def failing(*args):
    saved.append(1)
    if len(saved) > 5:
      raise OSError("no space left")
    real(*args)
  monkeypatch.setattr(as_folder, "_save", failing)
  write = lambda: as_folder.write("digits", tmp_path / "at", side=8, data_dir=str(tmp_path),
                                  limit=20)
  with pytest.raises(OSError, match="no space left"):
    write()
  with pytest.raises(ValueError, match="no images in train/<class>"):
    builders.builder("folder", str(tmp_path / "at"))
  monkeypatch.setattr(as_folder, "_save", real)
  assert write() == 40
  assert sorted(path.name for path in (tmp_path / "at").iterdir()) == ["test", "train"]


@pytest.mark.parametrize("arguments", [{"side": 0}, {"side": 8, "limit": -5}])
def test_numbers_are_named(arguments, tmp_path):
  with pytest.raises(ValueError, match="(side|limit)=.*: must be a whole number from 1"):
    as_folder.write("digits", tmp_path / "at", **arguments)


def test_a_folder_that_holds_something_is_refused(tmp_path):
  (tmp_path / "old.txt").touch()
  with pytest.raises(ValueError, match="holds something; it must be empty or not there"):
    as_folder.write("digits", tmp_path, side=16)
