"""HiPPO-Prophecy: a state space that predicts the next sample before it has been trained.

    h_t = a h_{t-1} + b u_t                   LegT, the last `window` samples as Legendre coefficients                  (1)
    û_{t+1} = u_t + C h_t,   C_n = sqrt(2n+1) n(n+1) / window                                                      (2)

C h is the slope of the remembered polynomial at the present: P_n'(1) = n(n+1)/2. Discretised by the bilinear rule, the state stands half a
step ahead of u, so (2) adds the slope of the middle of the step and is right to second order. Under the zero-order hold it is not,
and C, which grows with n², amplifies what the hold gets wrong.

Paper    Arangath Joseph et al. 2024, arXiv:2407.09375.
Departs  derived anew from the basis (the paper also has Fourier and LegS weights); time is counted in samples.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.discretize import Discretization, bilinear_matrix
from separatrix.recurrence.hippo import legt


class Prophecy(NamedTuple):
    """A predictor as `dense_ssm` takes it, dense_ssm(u, *prophecy(...)), one channel.

    a [1, N, N], b, c [1, N], skip [1], float64
    """

    a: Tensor
    b: Tensor
    c: Tensor
    skip: Tensor


def prophecy(n: int, window: float, discretize: Discretization = bilinear_matrix) -> Prophecy:
    """Weights that predict u_{t+1} from u_0 ... u_t, in closed form.

    n           coefficients that the window is remembered by: about 4 and 6 more per cycle of the fastest oscillation in it.
    window      in samples.
    discretize  bilinear_matrix or zoh_matrix.
    """
    A, B, _ = partial(legt, window=window)(n)
    a, b = discretize(A.unsqueeze(0), B.unsqueeze(0), torch.ones(1, dtype=torch.float64))
    i = torch.arange(n, dtype=torch.float64)
    c = (2 * i + 1).sqrt() * i * (i + 1) / window
    return Prophecy(a, b, c.unsqueeze(0), torch.ones(1, dtype=torch.float64))
