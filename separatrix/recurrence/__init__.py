"""How a state moves: structured transitions and the scans that run them."""

from separatrix.recurrence.convolution import long_convolution
from separatrix.recurrence.delta import delta_rule
from separatrix.recurrence.dense import Dense
from separatrix.recurrence.diagonal import Diagonal, Scalar, diagonal_scan
from separatrix.recurrence.diagonal_ssm import diagonal_ssm
from separatrix.recurrence.dplr import DiagonalPlusLowRank
from separatrix.recurrence.householder import Householder
from separatrix.recurrence.least_squares import recursive_least_squares
from separatrix.recurrence.linear_attention import linear_attention
from separatrix.recurrence.plan import OPERATIONS, choose, plan
from separatrix.recurrence.ridge import AdaptiveRidge, ridge_attention, ridge_solve
from separatrix.recurrence.selective import selective_scan
from separatrix.recurrence.solvers import Chebyshev, ConjugateGradient
from separatrix.recurrence.ssd import ssd
from separatrix.recurrence.state import State
from separatrix.recurrence.transition import Transition, scan

__all__ = [
    "OPERATIONS",
    "AdaptiveRidge",
    "Chebyshev",
    "ConjugateGradient",
    "Dense",
    "Diagonal",
    "DiagonalPlusLowRank",
    "Householder",
    "Scalar",
    "State",
    "Transition",
    "choose",
    "delta_rule",
    "diagonal_scan",
    "diagonal_ssm",
    "linear_attention",
    "long_convolution",
    "plan",
    "recursive_least_squares",
    "ridge_attention",
    "ridge_solve",
    "scan",
    "selective_scan",
    "ssd",
]
