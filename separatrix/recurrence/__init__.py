"""How a state moves: structured transitions and the scans that run them."""

from separatrix.recurrence.convolution import long_convolution
from separatrix.recurrence.delta import delta_rule
from separatrix.recurrence.dense import Dense, dense_scan
from separatrix.recurrence.diagonal import Diagonal, Scalar, diagonal_scan
from separatrix.recurrence.diagonal_ssm import diagonal_ssm
from separatrix.recurrence.dictionary import dictionary_scan, dictionary_transition
from separatrix.recurrence.dplr import DiagonalPlusLowRank
from separatrix.recurrence.householder import Householder, HouseholderProduct
from separatrix.recurrence.linear_attention import linear_attention
from separatrix.recurrence.low_rank import low_rank_scan
from separatrix.recurrence.minmax import MinMax, MinMaxDiagonal, minmax_scan
from separatrix.recurrence.plan import OPERATIONS, choose, plan
from separatrix.recurrence.selective import selective_scan
from separatrix.recurrence.ssd import ssd
from separatrix.recurrence.state import State
from separatrix.recurrence.transition import Transition, scan

__all__ = [
    "OPERATIONS",
    "Dense",
    "Diagonal",
    "DiagonalPlusLowRank",
    "Householder",
    "HouseholderProduct",
    "MinMax",
    "MinMaxDiagonal",
    "Scalar",
    "State",
    "Transition",
    "choose",
    "delta_rule",
    "dense_scan",
    "diagonal_scan",
    "diagonal_ssm",
    "dictionary_scan",
    "dictionary_transition",
    "linear_attention",
    "long_convolution",
    "low_rank_scan",
    "minmax_scan",
    "plan",
    "scan",
    "selective_scan",
    "ssd",
]
