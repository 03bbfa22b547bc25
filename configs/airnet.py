"""AirNet on CIFAR-10 ("94% on CIFAR-10 in 3.29 seconds on a single GPU").

python launch.py --config=configs/airnet.py --data_dir=DIR          CIFAR-10; a quarter of an hour
python launch.py --config=configs/airnet.py:digits,smoke            a narrow net, made for tests

All sixteen take three quarters of an hour: --config.combos=all --config.conventional=true.

After the published recipe (airbench94_muon, but batches of 1,000 for 2,000): whitening, Muon on
normalized filters, SGD for biases and the head, everything linear to 0, label smoothing,
alternating flips, shifts that reflect. It is the base model of the sixteen combinations,
which `--config.combos=all` runs.

Differences: 10 % of the training images are held out, and the best epoch is chosen on them; the
test images are not augmented. Rates of SGD are the published ones for the mean of a batch's
losses, not the sum; the head's also for weights without a scale (0.67 · 2000 / 256²). There the
head decays by 2.7 % a step at first; here, by AdamW's decay of 0.04 times the head's rate, by
0.04 %, and filters by 1 %, which their normalization undoes; biases do not decay. The whitening
layer's bias trains in all epochs, not in three.

Expected: 92.6 to 93.1 % of the test images, 92.4 to 93.0 % of the validation images; published,
trained on all 50,000 images and with augmented test images: 94.01 %. The time is that of 2
quiet cores with AVX-512's bfloat16: about 500 images/s.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "cifar10") -> ConfigDict:
  """Returns the study's configuration.

  Args:
    arg: "DATA[,full|smoke]", where DATA is "cifar10" or "digits".

  Raises:
    ValueError: unknown data, or an unknown budget.
  """
  name, _, budget = (arg or "cifar10").partition(",")
  common.choose("configs/airnet.py", name, ("cifar10", "digits"))
  augment = {"crop": 2, "pad": "reflect", "flip": True, "alternating": True}
  if name == "digits":
    augment = {"crop": 1, "pad": "reflect"}
  config = common.common("experiments.studies.combo.study.run",
                         {"name": name, "augment": augment})
  config.update({
      "teacher": common.model("airnet"),
      "base": {"train": _train(8)},
      "conventional": False,
      "deltas": (),
      **common.combinations(common.model("airnet", widths=(32, 64, 64)),
                            kd=_train(10), imp=_train(2, rate=1 / 3)),
  })
  # Few and large rounds: after seven 4.4 % of the weights are left.
  config.imp.update({"fraction": 0.36, "rounds": 7})
  config.combos = "base"
  if name == "digits":
    # Eight pixels are three after the first block and one after the second.
    config.teacher.arguments.widths = (16, 32)
    config.student.arguments.widths = (8, 16)
  return common.spend("configs/airnet.py", budget, {"full": None, "smoke": _smoke}, config)


def _train(epochs: int, *, batch: int = 1000, rate: float = 1.0) -> ConfigDict:
  """Returns the published recipe; `rate` is a factor of all learning rates."""
  made = common.muon(epochs, batch, rate=0.24 * rate)
  # The published rates are of the sum of a batch's losses; ours are of their mean. The
  # features are not scaled down here, so that the head's gradient is 256 times as large.
  made.update({"label_smoothing": 0.2, "rest_optimizer": "sgd", "rest_momentum": 0.85,
               "bias_learning_rate": 0.053 * batch * rate,
               "head_learning_rate": 0.67 * batch / 256**2 * rate, "weight_decay": 0.04})
  return made


def _smoke(config: ConfigDict) -> None:
  config.data.limit = 300
  for part in (config.base, config.kd, config.imp):
    part.train = _train(2, batch=32)
    part.train.steps_per_epoch = 8
  config.imp.rounds, config.q.images = 1, 64
  config.teacher.arguments.widths, config.student.arguments.widths = (4, 8), (4, 4)
