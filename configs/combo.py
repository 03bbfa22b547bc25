"""The sixteen combinations of "Combinatorics with model compression" (Figure 6).

python launch.py --config=configs/combo.py                 digits, 2 minutes on 2 cores
python launch.py --config=configs/combo.py:mnist           small DenseNet, half an hour on 2 cores
python launch.py --config=configs/combo.py:cifar10         the paper's recipe; wants a GPU

A budget follows the data set: `:cifar10,epochs=2` trains the base model, the
student and each recovery for at most 2 epochs, `steps=20` makes an epoch 20
steps, `images=2000` uses only so many images, `rounds=3` prunes at most 3 times.
For instance a smoke run: `:cifar10,epochs=1,steps=20,images=512,rounds=1`.

Any field can be set: `--config.imp.fraction=0.3 --config.seeds=3`.

Expected (paper, CIFAR-10 validation): base 92.8 %; imp+q 91.65 %; the smallest
file that loses little is that of imp+q.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "digits") -> ConfigDict:
  """Returns the study's configuration for "DATA[,epochs=…][,steps=…][,images=…][,rounds=…]"."""
  name, *budget = (arg or "digits").split(",")
  made = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}
  if name not in made:
    raise ValueError(f"configs/combo.py:{name}: may be one of {', '.join(made)}")
  config = made[name]()
  for item in budget:
    _spend(config, item)
  return config.lock()


def _spend(config: ConfigDict, item: str) -> None:
  """Applies one "field=number" of a budget."""
  key, _, value = item.partition("=")
  if key not in ("epochs", "steps", "images", "rounds") or not value.isdigit() or int(value) < 1:
    raise ValueError(f"configs/combo.py: budget {item!r} may be epochs=, steps=, images= or "
                     "rounds= and a whole number from 1")
  if key == "images":
    config.data.limit = int(value)
    config.q.images = min(config.q.images, int(value))
  elif key == "rounds":
    config.imp.rounds = int(value)
  else:
    for part in (config.base, config.kd, config.imp):
      part.train["epochs" if key == "epochs" else "steps_per_epoch"] = int(value)


def _train(epochs: int, **changes: float) -> ConfigDict:
  """Adam, batch 128, cosine from 1e-3 to 1e-7 (section 3.1); 0 steps is a pass over the data."""
  return ConfigDict({"epochs": epochs, "batch_size": 128, "steps_per_epoch": 0,
                     "learning_rate": 1e-3, "final_learning_rate": 1e-7, **changes})


def _cifar10() -> ConfigDict:
  """The paper's full recipe."""
  return ConfigDict({
      "study": "experiments.combo.run",
      "combos": "all",  # or names and commas: "base,imp,imp+q"
      "seed": 0,
      "seeds": 1,
      "compute_dtype": "float32",
      "data": {"name": "cifar10", "validation": 0.1, "limit": 0,
               "augment": {"crop": 4, "flip": True, "rotate": 10.0, "jitter": 0.2}},
      "teacher": {"name": "densenet", "arguments": {"depth": 40, "growth": 12, "stem": 16}},
      "student": {"name": "convnet", "arguments": {"widths": (16, 32, 64), "hidden": (128, 64)}},
      "base": {"train": _train(100)},
      "kd": {"train": _train(500), "temperature": 5.0, "alpha": 0.7},
      "imp": {"train": _train(100), "fraction": 0.2, "tolerance": 0.01, "rounds": 30},
      "lrtf": {"rank": 0, "delta": 1},  # rank 0: r_max - delta
      "q": {"bits": 8, "activation_bits": 8, "images": 2048},
  })


def _mnist() -> ConfigDict:
  """The paper's study on MNIST, sized for a laptop."""
  config = _cifar10()
  config.data.name = "mnist"
  config.data.augment = ConfigDict({"crop": 2, "flip": False, "rotate": 10.0, "jitter": 0.0})
  config.teacher.arguments = ConfigDict({"depth": 10, "growth": 12, "stem": 16})
  config.student.arguments = ConfigDict({"widths": (8, 16, 24), "hidden": (32, 24)})
  config.base.train = _train(4, learning_rate=3e-3)
  config.kd.train = _train(6, learning_rate=3e-3)
  config.imp = ConfigDict({"train": _train(3, steps_per_epoch=200), "fraction": 0.2,
                           "tolerance": 0.003, "rounds": 12})
  return config


def _digits() -> ConfigDict:
  """A study of the same shape on 8 x 8 digits, in about two minutes on 2 cores."""
  config = _cifar10()
  config.data.name = "digits"
  config.data.augment = ConfigDict({"crop": 1, "flip": False, "rotate": 10.0, "jitter": 0.0})
  config.teacher.arguments = ConfigDict({"depth": 10, "growth": 12, "stem": 16})
  config.student.arguments = ConfigDict({"widths": (12, 24, 32), "hidden": (48, 32)})
  config.base.train = _train(16, steps_per_epoch=50, learning_rate=3e-3)
  config.kd.train = _train(16, steps_per_epoch=50, learning_rate=3e-3)
  config.imp = ConfigDict({"train": _train(4, steps_per_epoch=50), "fraction": 0.2,
                           "tolerance": 0.01, "rounds": 10})
  config.q.images = 512
  return config
