"""The GLMM of one gene without space: the same marginal objective with theta held at 0.

What a fit with space gains over it, in nats, says how much the data ask for a spatial field.
"""

from dataclasses import replace

from splisosm_pyro.fit.glmm.fit_gene import fit_gene
from splisosm_pyro.fit.glmm.specification import GLMMSpec, Params
from splisosm_pyro.fit.result import GeneFit
from splisosm_pyro.maths.numeric.arrays import FloatArray


def fit_white_noise(spec: GLMMSpec, counts: FloatArray, start: Params) -> GeneFit:
    """Fit one gene with theta held at 0; arguments as those of ``fit_gene``.

    Its status is ``boundary`` at best, theta being at its lower bound.

    Raises
    ------
    ValueError
        If the method of ``spec`` is a joint one, which has no such comparison.
    """
    return fit_gene(without_space(spec), counts, start)


def without_space(spec: GLMMSpec) -> GLMMSpec:
    """Return the same specification with theta held at 0; a ValueError if its method is joint."""
    if spec.joint:
        raise ValueError(f"method must be a marginal one, came {spec.options.method!r}")
    return replace(spec, white=True)
