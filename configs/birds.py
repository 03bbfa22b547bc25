"""Birds ("Comparative analysis of distillation, quantization and pruning").

python launch.py --config=configs/birds.py --data_dir=FOLDER            in full; wants a GPU
python launch.py --config=configs/birds.py:overnight --data_dir=FOLDER  64 pixels, hours
python launch.py --config=configs/birds.py:short --data_dir=FOLDER      real models, a few steps
python launch.py --config=configs/birds.py:smoke --data_dir=FOLDER      tiny models, for tests

FOLDER has train/<class>, test/<class> and maybe valid/<class> with JPEG or PNG files
in them; the paper's is "Birds 525 species" (Kaggle), 84,635 training images. Where the birds
cannot be had, `python -m experiments.datasets.as_folder --folder=FOLDER` writes CIFAR-10 so,
at 64 pixels, for `:overnight`. With --config.weights=resnet50.pth (or .safetensors,
torchvision's) the teacher starts from ImageNet and the paper's three ways of training it are
compared; without, it is trained from scratch.

Tables I to III, Figures 3 and 4: ResNet-50 in calibrated int8; SqueezeNet and
StudentNet trained on the labels and by the teacher; four rounds of pruning, layer by
layer and globally, each followed by training with an L1 or L2 penalty.

Expected (paper): teacher 98.63 %, int8 98.43 %, SqueezeNet 70 % and distilled 84 %,
99.04 % on the validation images at a sparsity of 57.78 %. The paper gives no learning
rate, batch size, temperature, alpha, penalty or epochs of a round.

Reached with `:overnight` (CIFAR-10, test, one seed): teacher 90.21 %, int8 90.15 %, SqueezeNet
70.92 % and distilled 71.81 %, StudentNet 79.12 % and 79.75 %, 89.13 % at a sparsity of 58.91 %, in
under six hours of 2 cores that are fast at bfloat16 and had other work, too.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "full") -> ConfigDict:
  """Returns the study's configuration.

  Args:
    arg: the budget: "full", "overnight", "short" or "smoke".

  Raises:
    ValueError: an unknown budget.
  """
  config = common.common("experiments.studies.birds.study.run", {
      "name": "folder", "side": 224, "augment": {"crop": 16, "flip": True}})
  config.update({
      "model": common.model("resnet50", standardize=True),
      "weights": "",  # torchvision's resnet50, a .pth or .safetensors file
      "squeezenet": common.model("squeezenet", standardize=True),
      "studentnet": common.model("studentnet"),
      "base": {"train": _train(30)},
      "students": {"train": _train(30, learning_rate=1e-3)},
      "temperature": 5.0,
      "alpha": 0.7,
      "images": 2048,  # that calibrate int8
      "calls": 50,  # that are timed
      "prune": {"train": _train(5, learning_rate=1e-4), "fraction": 0.2, "rounds": 4,
                "grid": ("layer-l1", "layer-l2", "global-l1", "global-l2"),
                "l1": 1e-7, "l2": 1e-5},
      # SqueezeNet has no linear layer to factorize.
      "combine": common.combinations(
          common.model("studentnet"), kd=_train(30, learning_rate=1e-3),
          imp=_train(5, learning_rate=1e-4)),
  })
  return common.spend("configs/birds.py", arg, {
      "full": None, "overnight": _overnight, "short": _short, "smoke": _smoke}, config)


def _train(epochs: int, **changes: float) -> ConfigDict:
  """Returns how this study's models train, where nothing else is said."""
  return common.train(epochs, **{"batch_size": 64, "learning_rate": 3e-4, **changes})


def _overnight(config: ConfigDict) -> None:
  """CIFAR-10 as a folder at 64 pixels: ten classes, five rounds of pruning, four to six hours."""
  config.data.update({"side": 64, "augment": ConfigDict({
      **config.data.augment, "crop": 4, "pad": "reflect", "alternating": True})})
  config.base.train = common.muon(8)
  # SqueezeNet has no norms.
  config.students.train = common.train(12, learning_rate=1e-3)
  # The teacher takes longer than a student: it is asked about four epochs, for both students.
  config.students.train.views = 4
  config.prune.update({"train": _train(1), "rounds": 5, "grid": ("global-l1",)})
  config.combine.kd.train = config.students.train
  config.combine.imp.train = _train(1)


def _few(config: ConfigDict, epochs: int, steps: int, batch: int) -> None:
  """Lets all parts train for a few steps only, the teacher and students for `epochs`."""
  common.few((config.base, config.students, config.combine.kd), steps, batch, epochs)
  common.few((config.prune, config.combine.imp), steps, batch)
  config.combine.imp.rounds = 1
  config.combine.q.images = config.images


def _short(config: ConfigDict) -> None:
  """Enough steps to see every part work; accuracies are far from the paper's."""
  config.data.update({"side": 64, "augment": {"crop": 4}})
  config.images, config.calls = 64, 10
  config.prune.grid = ("global-l1",)
  _few(config, 4, 10, 16)


def _smoke(config: ConfigDict) -> None:
  """Tiny models and a few steps, for tests."""
  config.data.update({"side": 32, "augment": {"crop": 0}})
  config.images, config.calls = 16, 2
  config.prune.grid, config.prune.rounds = ("layer-l2",), 2
  _few(config, 2, 3, 8)
  config.model.arguments.update({"stages": (1,), "width": 4})
  config.squeezenet.arguments.update({"stem": 8, "groups": (((2, 4),),)})
  config.studentnet.arguments = ConfigDict({"channels": (8,)})
  config.combine.student = config.studentnet
