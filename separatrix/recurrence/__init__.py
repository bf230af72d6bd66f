"""How a state moves: structured transitions and the scans that run them."""

from separatrix.recurrence.convolution import long_convolution
from separatrix.recurrence.delta import delta_rule
from separatrix.recurrence.dense import Dense
from separatrix.recurrence.diagonal import Diagonal, Scalar, diagonal_scan
from separatrix.recurrence.diagonal_ssm import diagonal_ssm
from separatrix.recurrence.dplr import DiagonalPlusLowRank, dplr
from separatrix.recurrence.householder import Householder
from separatrix.recurrence.kaczmarz import kaczmarz_step
from separatrix.recurrence.linear_attention import linear_attention
from separatrix.recurrence.log_linear import Fenwick, log_linear_attention
from separatrix.recurrence.longhorn import longhorn, longhorn_diagonal
from separatrix.recurrence.mixture import Routing, mixture_of_memories, route
from separatrix.recurrence.normalised import Average, normalised_attention
from separatrix.recurrence.plan import OPERATIONS, choose, plan
from separatrix.recurrence.selective import selective_scan
from separatrix.recurrence.ssd import ssd
from separatrix.recurrence.state import State
from separatrix.recurrence.transition import Transition, scan

__all__ = [
    "OPERATIONS",
    "Average",
    "Dense",
    "Diagonal",
    "DiagonalPlusLowRank",
    "Fenwick",
    "Householder",
    "Routing",
    "Scalar",
    "State",
    "Transition",
    "choose",
    "delta_rule",
    "diagonal_scan",
    "diagonal_ssm",
    "dplr",
    "kaczmarz_step",
    "linear_attention",
    "log_linear_attention",
    "long_convolution",
    "longhorn",
    "longhorn_diagonal",
    "mixture_of_memories",
    "normalised_attention",
    "plan",
    "route",
    "scan",
    "selective_scan",
    "ssd",
]
