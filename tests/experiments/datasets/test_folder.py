"""A folder of images: what TFDS would list, never all in memory, the same training."""

import os
import shutil
import time
import weakref
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.core.folder_dataset import image_folder

from experiments import models
from experiments.datasets import builders, folder, splits
from experiments.training import evaluate, input_pipeline, loop
from experiments.training.augment import Augment
from experiments.training.progress import Log
from experiments.training.recipe import Recipe
from tests import pictures

SIDE, CLASSES = 16, 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return pictures.write(tmp_path_factory.mktemp("pictures") / "root",
                        {"train": 8, "valid": 2, "test": 2}, classes=CLASSES, sides=(12, 40))


@pytest.fixture
def copy(root, tmp_path):
  return shutil.copytree(root, tmp_path / "copy")


def load(root, **changes):
  builder = builders.builder("folder", str(root), SIDE)
  return builders.load(builder, **{"validation": 0.25, "seed": 0, **changes})


def test_files_classes_and_their_order_are_those_of_tfds(root, monkeypatch):
  within = lambda kept: lambda root: [n for n in os.listdir(root)
                                      if kept(os.path.join(root, n))]
  monkeypatch.setattr(image_folder, "_list_folders", within(os.path.isdir))
  monkeypatch.setattr(image_folder, "_list_img_paths",
                      lambda root: [os.path.join(root, n) for n in os.listdir(root)])
  theirs, ours = image_folder.ImageFolder(str(root)), builders.builder("folder", str(root), SIDE)
  assert ours.info.features["label"].names == theirs.info.features["label"].names
  for name, examples in theirs._split_examples.items():
    assert ours.files[name] == [tuple(e) for e in examples]
    assert ours.info.splits[name].num_examples == theirs.info.splits[name].num_examples


def test_images_are_pillows_whatever_thread_is_first(root, monkeypatch):
  split = load(root).train
  alone = [np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BILINEAR))
           for path in split.paths]
  rng, real = np.random.default_rng(0), folder.decoded

  def late(path, side):
    time.sleep(0.01 * rng.random())
    return real(path, side)

  monkeypatch.setattr(folder, "decoded", late)
  for order in (np.arange(len(split)), np.arange(len(split))[::-1], rng.permutation(len(split))):
    np.testing.assert_array_equal(split.read(order), [alone[i] for i in order])
  assert [Path(p).parent.name for p in split.paths] == [f"class{i:03d}" for i in split.labels]


def fit(path, of):
  model = models.create("convnet", num_classes=CLASSES, widths=(4, 4, 4), hidden=(8, 8))
  recipe = Recipe(epochs=3, batch_size=4, steps_per_epoch=7, learning_rate=5e-3,
                  augment=Augment(crop=1, flip=True))
  return loop.fit(model, loop.initial(model, of.train.shape, 0), of, recipe,
                  directory=path / "work", log=Log("t", path / "log.txt"))


@pytest.mark.slow
def test_streamed_training_gives_the_same_weights_and_holds_few_images(root, tmp_path, monkeypatch):
  streamed = load(root)
  held = splits.Data(num_classes=CLASSES, **{
      name: splits.Split(images=s.read(slice(None)), labels=s.labels)
      for name, s in (("train", streamed.train), ("validation", streamed.validation),
                      ("test", streamed.test))})
  monkeypatch.setattr(evaluate, "BATCH", 6)
  # Two steps a piece, 8 images of 24; the last piece of an epoch has one step.
  monkeypatch.setattr(input_pipeline, "PIECE_BYTES", 2 * 4 * SIDE * SIDE * 3)
  alive, most, real = weakref.WeakValueDictionary(), [0], folder.Files.read

  def held_images():
    # JAX's threads let go of a call's inputs a moment after its results are there, and Python
    # learns of it when JAX is called again.
    for _ in range(100):
      jax.block_until_ready(jax.numpy.zeros(1) + 1)
      count = sum(len(x) for x in list(alive.values()))
      if count <= 16 + 6:
        break
      time.sleep(0.01)
    return count

  def counted(self, index):
    images = real(self, index)
    alive[id(images)] = images
    most[0] = max(most[0], held_images())
    return images

  for name in ("streamed", "held"):
    (tmp_path / name).mkdir()
  in_memory = fit(tmp_path / "held", held)
  monkeypatch.setattr(folder.Files, "read", counted)
  from_files = fit(tmp_path / "streamed", streamed)
  # A piece that is trained on, one that is read ahead, or one that is evaluated on.
  assert 8 <= most[0] <= 16 + 6 < len(streamed.train)
  chex.assert_trees_all_equal(from_files.variables, in_memory.variables)
  for key in ("loss", "accuracy", "val_accuracy"):
    np.testing.assert_allclose(*([h[key] for h in f.history] for f in (from_files, in_memory)),
                               rtol=1e-6)
  assert from_files.history[-1]["loss"] < from_files.history[0]["loss"]


def test_the_folders_own_validation_split_or_a_part_of_training(copy):
  own = load(copy)
  assert (len(own.train), len(own.validation), len(own.test)) == (24, 6, 6)
  assert all("/valid/" in path for path in own.validation.paths)
  (copy / "valid").rename(copy / "validation")
  assert len(load(copy).validation) == 6
  shutil.rmtree(copy / "validation")
  parts = [load(copy, seed=seed) for seed in (0, 0, 1)]
  assert (len(parts[0].train), len(parts[0].validation)) == (18, 6)
  held = [set(p.validation.paths) for p in parts]
  assert held[0] == held[1] != held[2] and not held[0] & set(parts[0].train.paths)
  with pytest.raises(ValueError, match=r"data.validation=0.01: must be"):
    load(copy, validation=0.01)


def test_a_limit_takes_so_many_of_every_split_from_all_classes(root):
  few = load(root, limit=5)
  assert (len(few.train), len(few.validation), len(few.test)) == (5, 5, 5)
  assert len(set(few.test.labels)) > 1


def test_the_fingerprint_is_of_names_and_sizes(root, copy):
  of = lambda at: builders.fingerprint(builders.builder("folder", str(at), SIDE))
  first = of(root)
  assert first == of(copy) and len(first) == 12
  one = next((copy / "train" / "class000").glob("*.png"))
  one.rename(one.with_stem("other"))
  renamed = of(copy)
  with one.with_stem("other").open("ab") as file:
    file.write(b"x")
  assert len({first, renamed, of(copy)}) == 3


BROKEN = {
    "no data_dir": (lambda at: None, r"--data_dir is missing"),
    "no folder": (lambda at: at / "nothing", r"data_dir='.*nothing': is no directory"),
    "no test": (lambda at: shutil.rmtree(at / "test"), r"no images in test/<class>"),
    "no classes": (lambda at: (shutil.rmtree(at / "train"), (at / "train").mkdir()),
                   r"no images in train/<class>; they must end in .jpg, .jpeg, .png"),
    "strange class": (lambda at: (at / "test/class000").rename(at / "test/dodo"),
                      r"test/dodo is a class that train/ has no images of"),
    "empty class": (lambda at: [path.rename(path.with_suffix(".webp"))
                                for path in (at / "train/class001").iterdir()],
                    r"no images in train/class001; they must end in"),
    "one class": (lambda at: [shutil.rmtree(path) for path in at.glob("*/class00[12]")],
                  r"train/class000 is the only class; must be two or more")}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_folders_are_named(case, copy):
  change, message = BROKEN[case]
  changed = change(copy)
  at = changed if case.startswith("no folder") else copy
  with pytest.raises(ValueError, match=message):
    builders.builder("folder", None if case == "no data_dir" else str(at), SIDE)


def test_what_file_managers_leave_behind_is_no_image(root, copy):
  left = copy / "train/.ipynb_checkpoints"
  left.mkdir()
  for path in (left / "a.png", copy / "train/class000/._a.png", copy / "test/class000/.DS_Store"):
    path.write_bytes(b"no image")
  (copy / "train/class000/folder.png").mkdir()
  made = builders.builder("folder", str(copy), SIDE)
  assert builders.num_classes(made) == CLASSES
  assert builders.fingerprint(made) == builders.fingerprint(
      builders.builder("folder", str(root), SIDE))


def test_broken_test_images_are_named_before_anything_is_trained(copy):
  made = builders.builder("folder", str(copy), SIDE)
  builders.check(made)
  paths = made.split("test").paths
  for path in paths[:5]:
    Path(path).write_bytes(b"no image")
  with pytest.raises(ValueError, match=f"{Path(paths[0]).name}: cannot be read.*and 2 more files"):
    builders.check(made)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_broken_image_is_named(copy, content):
  split = load(copy).train
  path = Path(next(p for p in split.paths if p.endswith(".png")))
  path.write_bytes(path.read_bytes()[:200] if content is None else content)
  with pytest.raises(ValueError, match=f"{path.name}: cannot be read as an image"):
    split.read(slice(None))
  other = Path(next(p for p in split.paths if p != str(path)))
  other.write_bytes(b"")
  with pytest.raises(ValueError) as told:  # all at once, where only one was asked for
    split.read(np.flatnonzero(split.paths == str(path)))
  assert path.name in str(told.value) and other.name in str(told.value)


def test_images_are_as_a_viewer_shows_them(tmp_path):
  ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
  Image.fromarray(ramp).save(tmp_path / "deep.png")
  image = folder.decoded(str(tmp_path / "deep.png"), 16)
  np.testing.assert_allclose(image, (ramp / 257)[..., None].repeat(3, -1), atol=1)

  upright = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))
  exif = upright.getexif()
  exif[0x0112] = 6  # the camera was held sideways
  upright.save(tmp_path / "turned.png", exif=exif)
  turned = folder.decoded(str(tmp_path / "turned.png"), 16)
  np.testing.assert_array_equal(turned, np.rot90(np.asarray(upright), -1))

  hidden = np.full((16, 16, 4), 200, np.uint8)
  hidden[:, :8, 3] = 0
  Image.fromarray(hidden).save(tmp_path / "clear.png")
  clear = folder.decoded(str(tmp_path / "clear.png"), 16)
  assert (clear[:, :7] == 0).all() and (clear[:, 9:] > 100).all()
