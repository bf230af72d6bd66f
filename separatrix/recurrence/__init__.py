"""How a state moves: structured transitions and the scans that run them."""

from separatrix.recurrence.companion import Companion, companion_closed_loop, companion_kernel, companion_ssm, companion_state
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
from separatrix.recurrence.lru import lru_gain, rg_lru
from separatrix.recurrence.minimal import log_min_gru, log_min_lstm, log_positive, log_scan, min_gru, min_lstm, positive
from separatrix.recurrence.minmax import MinMax, MinMaxDiagonal, minmax_scan
from separatrix.recurrence.plan import OPERATIONS, choose, plan
from separatrix.recurrence.selective import selective_scan
from separatrix.recurrence.ssd import ssd
from separatrix.recurrence.state import State
from separatrix.recurrence.transition import Transition, scan

__all__ = [
    "OPERATIONS",
    "Companion",
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
    "companion_closed_loop",
    "companion_kernel",
    "companion_ssm",
    "companion_state",
    "delta_rule",
    "dense_scan",
    "diagonal_scan",
    "diagonal_ssm",
    "dictionary_scan",
    "dictionary_transition",
    "linear_attention",
    "log_min_gru",
    "log_min_lstm",
    "log_positive",
    "log_scan",
    "long_convolution",
    "low_rank_scan",
    "lru_gain",
    "min_gru",
    "min_lstm",
    "minmax_scan",
    "plan",
    "positive",
    "rg_lru",
    "scan",
    "selective_scan",
    "ssd",
]
