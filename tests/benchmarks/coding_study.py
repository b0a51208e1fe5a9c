"""Real genes of three isoforms under either coding, each isoform once the last one.

``python tests/benchmarks/coding_study.py sit_mob_ont_isoforms.npz [every]`` takes every so many
genes of a file with ``counts_3`` (G, S, 3) and ``coords_um`` (S, 2).
"""

import sys
import time

import numpy as np

from splisosm_pyro import fit_genes

WAYS = [("reference", 0), ("reference", 1), ("reference", 2), ("symmetric", 2)]
CHI_BAR = 2.706  # 5 %: half of the null's mass is at theta = 0


def fitted(counts, coords, coding, last):
    """Log marginal with and without space, theta (G,), usage (G, S, 3), seconds."""
    order = [p for p in range(3) if p != last] + [last]
    began = time.process_time()
    fits = fit_genes(
        counts[:, :, order], coords=coords, coding=coding, keep_usage=True, tests=False
    )
    spent = time.process_time() - began
    usage = [fits.usage(g, errors=False)[0][:, np.argsort(order)] for g in range(len(counts))]
    names = ("log_marginal", "log_marginal_white", "theta")
    return *(fits.table[name].to_numpy() for name in names), np.stack(usage), spent


def main(path, every):
    """Print what moves with the reference."""
    data = np.load(path)
    counts = data["counts_3"][::every].astype(float)
    fitted(counts[:1], data["coords_um"], *WAYS[-1])  # compiles
    value, white, theta, usage, spent = zip(
        *(fitted(counts, data["coords_um"], *way) for way in WAYS), strict=True
    )
    apart = np.ptp(value[:3], axis=0)
    significant = 2.0 * (np.array(value) - np.array(white)) > CHI_BAR
    print(f"{len(counts)} genes; best less worst reference, nats: median {np.median(apart):.2f}, "
          f"largest {apart.max():.2f}, above 1 in {(apart > 1).sum()}")  # fmt: skip
    print(f"theta moves by more than .3 in {(np.ptp(theta[:3], axis=0) > 0.3).sum()}")
    moved = np.ptp(usage[:3], axis=0).max(axis=(1, 2))
    print(f"usage moves by more than .1 in {(moved > 0.1).sum()}, by {moved.max():.2f} at most")
    every_one, some = significant[:3].all(axis=0).sum(), significant[:3].any(axis=0).sum()
    print(f"spatial: {every_one} under every reference, {some} under some, "
          f"{significant[3].sum()} under symmetric coding")  # fmt: skip
    above = np.array(value[3]) - np.mean(value[:3], axis=0)
    print(f"symmetric above the mean of references, nats: median {np.median(above):.2f}")
    print(f"processor seconds by way: {[round(s, 1) for s in spent]}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
