"""The stability report: what a person sees.

build(evidence)      findings, recipe and verdict as one offline HTML page
judge(...)           the verdict, by stated rules
"""

from separatrix.report.finding import Finding, Made, Picture, Run, show
from separatrix.report.page import Evidence, build
from separatrix.report.verdict import Criterion, Escape, Horizon, Judgement, Standing, judge

__all__ = [
    "Criterion",
    "Escape",
    "Evidence",
    "Finding",
    "Horizon",
    "Judgement",
    "Made",
    "Picture",
    "Run",
    "Standing",
    "build",
    "judge",
    "show",
]
