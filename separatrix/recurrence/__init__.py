"""How a state moves: structured transitions and the scans that run them."""

from separatrix.recurrence.convolution import long_convolution
from separatrix.recurrence.delta import delta_rule
from separatrix.recurrence.dense import Dense, dense_scan
from separatrix.recurrence.dense_ssm import dense_ssm
from separatrix.recurrence.diagonal import Diagonal, Scalar, diagonal_scan
from separatrix.recurrence.diagonal_ssm import diagonal_ssm
from separatrix.recurrence.directions import cross_merge, cross_scan, four_directions
from separatrix.recurrence.dplr import DiagonalPlusLowRank, dplr
from separatrix.recurrence.householder import Householder
from separatrix.recurrence.linear_attention import linear_attention
from separatrix.recurrence.mimo import mimo_ssm
from separatrix.recurrence.online import legs_online
from separatrix.recurrence.plan import OPERATIONS, choose, plan
from separatrix.recurrence.scan2d import scan2d, selective_scan2d
from separatrix.recurrence.selective import selective_scan
from separatrix.recurrence.spectral import spectral_convolution
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
    "dense_ssm",
    "diagonal_scan",
    "diagonal_ssm",
    "dplr",
    "four_directions",
    "legs_online",
    "linear_attention",
    "long_convolution",
    "mimo_ssm",
    "plan",
    "scan",
    "scan2d",
    "selective_scan",
    "selective_scan2d",
    "spectral_convolution",
    "ssd",
]
