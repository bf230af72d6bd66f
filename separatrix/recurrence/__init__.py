"""How a state moves: structured transitions and the scans that run them."""

from separatrix.recurrence.convolution import long_convolution
from separatrix.recurrence.delta import delta_rule
from separatrix.recurrence.dense import Dense, dense_scan
from separatrix.recurrence.diagonal import Diagonal, Scalar, diagonal_scan
from separatrix.recurrence.diagonal_ssm import diagonal_ssm
from separatrix.recurrence.directions import cross_merge, cross_scan, four_directions
from separatrix.recurrence.dplr import DiagonalPlusLowRank, dplr
from separatrix.recurrence.householder import Householder
from separatrix.recurrence.linear_attention import linear_attention
from separatrix.recurrence.plan import OPERATIONS, choose, plan
from separatrix.recurrence.scan2d import scan2d
from separatrix.recurrence.selective import selective_scan
from separatrix.recurrence.selective2d import selective_scan2d
from separatrix.recurrence.ssd import ssd
from separatrix.recurrence.state import State
from separatrix.recurrence.transition import Transition, scan

__all__ = [
    "OPERATIONS",
    "Dense",
    "Diagonal",
    "DiagonalPlusLowRank",
    "Householder",
    "Scalar",
    "State",
    "Transition",
    "choose",
    "cross_merge",
    "cross_scan",
    "delta_rule",
    "dense_scan",
    "diagonal_scan",
    "diagonal_ssm",
    "dplr",
    "four_directions",
    "linear_attention",
    "long_convolution",
    "plan",
    "scan",
    "scan2d",
    "selective_scan",
    "selective_scan2d",
    "ssd",
]
