"""How a state moves: structured transitions and the scans that run them."""

from separatrix.recurrence.blocks import DiagonalBlocks, block_scan
from separatrix.recurrence.cell import Cell, cell_scan, linearize
from separatrix.recurrence.cells import GRU, LSTM, DiagonalGRU, DiagonalLSTM, Elman
from separatrix.recurrence.companion import Companion, companion_closed_loop, companion_kernel, companion_ssm, companion_state
from separatrix.recurrence.convolution import long_convolution
from separatrix.recurrence.delta import delta_rule
from separatrix.recurrence.delta_product import delta_product
from separatrix.recurrence.dense import Dense, dense_scan
from separatrix.recurrence.dense_ssm import dense_ssm
from separatrix.recurrence.diagonal import Diagonal, Scalar, diagonal_scan
from separatrix.recurrence.diagonal_plus_low_rank import DiagonalPlusLowRank
from separatrix.recurrence.diagonal_ssm import diagonal_ssm
from separatrix.recurrence.dictionary import dictionary_scan, dictionary_transition
from separatrix.recurrence.directions import cross_merge, cross_scan, four_directions
from separatrix.recurrence.dplr import dplr
from separatrix.recurrence.forcing import Forced, ForcedRun, forced_scan, forcing
from separatrix.recurrence.householder import Householder, HouseholderProduct
from separatrix.recurrence.kaczmarz import kaczmarz_step
from separatrix.recurrence.least_squares import recursive_least_squares
from separatrix.recurrence.linear_attention import linear_attention
from separatrix.recurrence.log_linear import Fenwick, log_linear_attention
from separatrix.recurrence.longhorn import longhorn, longhorn_diagonal
from separatrix.recurrence.low_rank import low_rank_scan
from separatrix.recurrence.lru import lru_gain, rg_lru
from separatrix.recurrence.mimo import mimo_ssm
from separatrix.recurrence.minimal import log_min_gru, log_min_lstm, log_positive, log_scan, min_gru, min_lstm, positive
from separatrix.recurrence.minmax import MinMax, MinMaxDiagonal, minmax_scan
from separatrix.recurrence.mixture import Routing, mixture_of_memories, route
from separatrix.recurrence.newton import NotConverged, Solution, diagonal_part, newton_scan
from separatrix.recurrence.norm import rms_norm
from separatrix.recurrence.normal import NormalMinusLowRank
from separatrix.recurrence.normalised import Average, normalised_attention
from separatrix.recurrence.online import legs_online
from separatrix.recurrence.plan import OPERATIONS, choose, plan
from separatrix.recurrence.plrnn import PLRNN, DendriticPLRNN, ShallowPLRNN
from separatrix.recurrence.regression import AdaptiveRidge
from separatrix.recurrence.ridge import RidgeSolution, ridge_attention, ridge_solve
from separatrix.recurrence.scan2d import scan2d
from separatrix.recurrence.selective import selective_scan
from separatrix.recurrence.selective2d import selective_scan2d
from separatrix.recurrence.short_convolution import short_convolution
from separatrix.recurrence.solvers import Chebyshev, ConjugateGradient
from separatrix.recurrence.spectral import spectral_convolution
from separatrix.recurrence.ssd import ssd
from separatrix.recurrence.state import State
from separatrix.recurrence.transition import Transition, scan

__all__ = [
    "GRU",
    "LSTM",
    "OPERATIONS",
    "PLRNN",
    "AdaptiveRidge",
    "Average",
    "Cell",
    "Chebyshev",
    "Companion",
    "ConjugateGradient",
    "DendriticPLRNN",
    "Dense",
    "Diagonal",
    "DiagonalBlocks",
    "DiagonalGRU",
    "DiagonalLSTM",
    "DiagonalPlusLowRank",
    "Elman",
    "Fenwick",
    "Forced",
    "ForcedRun",
    "Householder",
    "HouseholderProduct",
    "MinMax",
    "MinMaxDiagonal",
    "NormalMinusLowRank",
    "NotConverged",
    "RidgeSolution",
    "Routing",
    "Scalar",
    "ShallowPLRNN",
    "Solution",
    "State",
    "Transition",
    "block_scan",
    "cell_scan",
    "choose",
    "companion_closed_loop",
    "companion_kernel",
    "companion_ssm",
    "companion_state",
    "cross_merge",
    "cross_scan",
    "delta_product",
    "delta_rule",
    "dense_scan",
    "dense_ssm",
    "diagonal_part",
    "diagonal_scan",
    "diagonal_ssm",
    "dictionary_scan",
    "dictionary_transition",
    "dplr",
    "forced_scan",
    "forcing",
    "four_directions",
    "kaczmarz_step",
    "legs_online",
    "linear_attention",
    "linearize",
    "log_linear_attention",
    "log_min_gru",
    "log_min_lstm",
    "log_positive",
    "log_scan",
    "long_convolution",
    "longhorn",
    "longhorn_diagonal",
    "low_rank_scan",
    "lru_gain",
    "mimo_ssm",
    "min_gru",
    "min_lstm",
    "minmax_scan",
    "mixture_of_memories",
    "newton_scan",
    "normalised_attention",
    "plan",
    "positive",
    "recursive_least_squares",
    "rg_lru",
    "ridge_attention",
    "ridge_solve",
    "rms_norm",
    "route",
    "scan",
    "scan2d",
    "selective_scan",
    "selective_scan2d",
    "short_convolution",
    "spectral_convolution",
    "ssd",
]
