"""A compressed model within limits: sparsity, bits and rank chosen layer by layer.

python launch.py --config=configs/suggest.py --config.max_bytes=12000                  digits
python launch.py --config=configs/suggest.py --config.max_accuracy_drop=0.01
python launch.py --config=configs/suggest.py:mnist,short --config.max_bytes=20000 \
  --config.max_accuracy_drop=0.005
python launch.py --config=configs/suggest.py:cifar10,full --config.max_bytes=1000000    wants a GPU

At least one of max_bytes (of the file), max_latency_ms (of a call with `batch` images, the
deployed program, here) and max_accuracy_drop (a fraction: 0.01 is a point; on validation images,
against the model before compression). With a limit on bytes or time the most accurate model
within the limits is chosen, else the smallest. `--config.finetune.train.epochs=0` leaves the
weights as they were trained. What does not depend on the limits is done once per workdir; every
set of limits has its results in a folder of its own.

The future work of "An analysis of compression methods", section VIII.
"""

from ml_collections import ConfigDict, config_dict

from configs import common


def get_config(arg: str = "digits") -> ConfigDict:
  """Returns the study's configuration.

  Args:
    arg: "DATA[,short|full|smoke]", where DATA is "digits", "mnist" or "cifar10".

  Raises:
    ValueError: unknown data, or an unknown budget.
  """
  name, _, budget = (arg or "digits").partition(",")
  made = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}
  common.choose("configs/suggest.py", name, made)
  config = common.common("experiments.studies.suggest.study.run", {"name": name})
  config.update({
      # Placeholders: None, and yet of a known type, so that a flag can set them.
      "max_bytes": config_dict.placeholder(int),
      "max_latency_ms": config_dict.placeholder(float),
      "max_accuracy_drop": config_dict.placeholder(float),
      "batch": 1,
      "calls": 30,  # timed, of a latency
      "choices": {"sparsities": (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95),
                  "bits": (None, 8, 6, 5, 4, 3, 2),
                  "ranks": (None, 0.5, 0.25)},  # fractions of r_max
      "search": {"by": "log_likelihood",  # or "accuracy": what sensitivity is measured in
                 "images": 0,  # of the validation split; 0 is all
                 "evaluations": 200,
                 "reserve": 0.01},  # of max_bytes, kept free for fine-tuning
      "deploy": 4,  # points of the front that are fine-tuned and deployed beside the best
  })
  made[name](config)
  return common.spend("configs/suggest.py", budget, {
      "short": _short, "full": _combine, "smoke": _smoke}, config)


def _combine(config: ConfigDict) -> None:
  """Adds what the combinations need; last, because they train as the study's own parts do."""
  config.combine = common.combinations(
      common.model("convnet", widths=(4, 8, 12), hidden=(24, 16)),
      kd=config.base.train.copy_and_resolve_references(),
      imp=config.finetune.train.copy_and_resolve_references(), rounds=10)


def _digits(config: ConfigDict) -> None:
  config.data.validation, config.data.augment.crop = 0.3, 1
  config.model = common.model("convnet")
  config.base = ConfigDict({"train": common.train(20, steps_per_epoch=50, learning_rate=3e-3)})
  config.finetune = ConfigDict({"train": common.train(4, steps_per_epoch=50)})


def _mnist(config: ConfigDict) -> None:
  config.data.augment.crop = 2
  config.model = common.model("convnet")
  config.base = ConfigDict({"train": common.train(8, learning_rate=3e-3)})
  config.finetune = ConfigDict({"train": common.train(2)})


def _cifar10(config: ConfigDict) -> None:
  config.data.augment.update({"crop": 4, "flip": True})
  config.model = common.model("vgg")
  config.base = ConfigDict({"train": common.train(100)})
  config.finetune = ConfigDict({"train": common.train(20, learning_rate=1e-4)})


def _short(config: ConfigDict) -> None:
  """Fewer choices by layer, fewer evaluations, and smaller models."""
  config.choices.update({"sparsities": (0.0, 0.5, 0.75, 0.9), "bits": (None, 8, 4, 3, 2),
                         "ranks": (None, 0.5)})
  config.search.evaluations, config.search.images = 100, 1000
  if config.data.name == "mnist":
    config.model = common.model("convnet", widths=(8, 16, 32), hidden=(64, 32))
    config.base.train.update({"epochs": 3, "steps_per_epoch": 200})
    config.finetune.train.update({"epochs": 1, "steps_per_epoch": 100})
  if config.data.name == "cifar10":
    config.model = common.model("vgg", groups=((16, 16), (32, 32), (64, 64)))
    config.data.limit = 10000
    common.few((config.base, config.finetune), 100, 64, epochs=2)
  _combine(config)


def _smoke(config: ConfigDict) -> None:
  """Tiny models and a few steps, for tests."""
  config.model = common.model("cnn", features=4)
  config.choices.update({"sparsities": (0.0, 0.8), "bits": (None, 4), "ranks": (None,)})
  config.search.evaluations, config.deploy, config.calls = 12, 1, 3
  config.data.limit = 300
  common.few((config.finetune,), 20, 32)
  common.few((config.base,), 50, 32, epochs=3)
  _combine(config)
