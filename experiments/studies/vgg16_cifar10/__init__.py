"""VGG-16 on CIFAR-10, of "Report on model compression"."""

from experiments.studies.vgg16_cifar10.study import VGG16, run

__all__ = ["VGG16", "run"]
