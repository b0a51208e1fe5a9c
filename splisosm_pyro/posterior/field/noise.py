"""Generators of one gene's draws, made of the seed and of the gene's own counts."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from splisosm_pyro.maths.numeric.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class Noise:
    """Independent generators of NumPy and of torch; the global ones are never touched."""

    numpy: np.random.Generator
    torch: torch.Generator

    @classmethod
    def of_gene(cls, seed: int, counts: FloatArray) -> "Noise":
        """Seed by ``seed`` and a hash of the counts (S, P): a gene's draws know no batch.

        Examples
        --------
        >>> one, two = (Noise.of_gene(0, np.ones((3, 2))) for _ in range(2))
        >>> one.numpy.integers(1000) == two.numpy.integers(1000)
        np.True_
        """
        text = np.ascontiguousarray(counts, dtype=np.float64).tobytes()
        words = np.frombuffer(hashlib.sha256(text).digest(), dtype=np.uint32)
        generator = np.random.default_rng([seed, *words.tolist()])
        torch_seed = int(generator.integers(2**62))
        return cls(generator, torch.Generator().manual_seed(torch_seed))
