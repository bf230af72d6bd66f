"""How a state moves: structured transitions and the scans that run them."""

from separatrix.recurrence.blocks import DiagonalBlocks, block_scan
from separatrix.recurrence.cell import Cell, cell_scan, linearize
from separatrix.recurrence.cells import GRU, LSTM, DiagonalGRU, DiagonalLSTM, Elman
from separatrix.recurrence.convolution import long_convolution
from separatrix.recurrence.delta import delta_rule
from separatrix.recurrence.dense import Dense, dense_scan
from separatrix.recurrence.diagonal import Diagonal, Scalar, diagonal_scan
from separatrix.recurrence.diagonal_ssm import diagonal_ssm
from separatrix.recurrence.directions import cross_merge, cross_scan, four_directions
from separatrix.recurrence.dplr import DiagonalPlusLowRank, dplr
from separatrix.recurrence.forcing import Forced, ForcedRun, forced_scan, forcing
from separatrix.recurrence.householder import Householder
from separatrix.recurrence.linear_attention import linear_attention
from separatrix.recurrence.newton import NotConverged, Solution, diagonal_part, newton_scan
from separatrix.recurrence.plan import OPERATIONS, choose, plan
from separatrix.recurrence.plrnn import PLRNN, DendriticPLRNN, ShallowPLRNN
from separatrix.recurrence.scan2d import scan2d, selective_scan2d
from separatrix.recurrence.selective import selective_scan
from separatrix.recurrence.ssd import ssd
from separatrix.recurrence.state import State
from separatrix.recurrence.transition import Transition, scan

__all__ = [
    "GRU",
    "LSTM",
    "OPERATIONS",
    "PLRNN",
    "Cell",
    "DendriticPLRNN",
    "Dense",
    "Diagonal",
    "DiagonalBlocks",
    "DiagonalGRU",
    "DiagonalLSTM",
    "DiagonalPlusLowRank",
    "Elman",
    "Forced",
    "ForcedRun",
    "Householder",
    "NotConverged",
    "Scalar",
    "ShallowPLRNN",
    "Solution",
    "State",
    "Transition",
    "block_scan",
    "cell_scan",
    "choose",
    "cross_merge",
    "cross_scan",
    "delta_rule",
    "dense_scan",
    "diagonal_part",
    "diagonal_scan",
    "diagonal_ssm",
    "dplr",
    "forced_scan",
    "forcing",
    "four_directions",
    "linear_attention",
    "linearize",
    "long_convolution",
    "newton_scan",
    "plan",
    "scan",
    "scan2d",
    "selective_scan",
    "selective_scan2d",
    "ssd",
]
