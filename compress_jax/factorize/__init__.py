"""Low-rank factorization: transforms that replace a tensor by thinner ones."""

from compress_jax.factorize.convolutions import spatial, tucker2
from compress_jax.factorize.fisher import fisher
from compress_jax.factorize.matrices import svd
from compress_jax.factorize.ranks import max_rank

__all__ = ["fisher", "max_rank", "spatial", "svd", "tucker2"]
