"""The grid of "Evaluation of compression combinations": sparsities by precisions."""

from experiments.studies.grid.study import Grid, run

__all__ = ["Grid", "run"]
