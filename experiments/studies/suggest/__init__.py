"""A compressed model within limits: sparsity, bits and rank chosen layer by layer."""

from experiments.studies.suggest.study import Suggest, run

__all__ = ["Suggest", "run"]
