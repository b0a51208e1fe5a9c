"""A spot's integral over its noise: the rules, each with its reason.

Trapezoidal sums, which converge exponentially here, but for the last. ``integrated.py`` takes them
for independent noise (the nugget), ``gaussian.py`` for noise of any covariance, one a spot.

============================ ================================ ======================= ==============
rule                         taken                            gains                   error, nats
============================ ================================ ======================= ==============
``line.py``                  two isoforms                     0.3 us at any sigma     1e-9
``plane.py``                 three: any covariance of         2 to 8 us; no           1e-8
                             moderate noise; a nugget where   transcendental function
                             no table reaches                 a node at few reads
``wide_plane.py``            the same for an sd beyond 5 or   20 us at any sd, where  1e-8
                             so, up to 100 reads              the plane's cost grows
``poisson_star.py``, by      nugget, three isoforms or more   linear in the number    1e-9
``poisson_star_table.py``                                     of isoforms
the same, by lines           the same, counts or logits       no limit of a table     1e-9
                             beyond the table
``lattice.py``               any covariance, four isoforms or right for any number    1e-7 for four,
                             more; singular ones              of isoforms: the twin   1e-5 beyond
                                                              of all others
``sampled.py``               the value alone, six isoforms    a bounded cost where a  about 1e-2
                             or more                          lattice's is a power
============================ ================================ ======================= ==============

``cumulants.py`` makes the derivatives in ``x`` and in the nugget of the sums of any of them.
"""
