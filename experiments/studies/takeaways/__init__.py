"""ResNet-18 on CIFAR-10, of "An analysis of compression methods"."""

from experiments.studies.takeaways.study import Takeaways, run

__all__ = ["Takeaways", "run"]
