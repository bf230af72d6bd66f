"""The stability report: what a person sees.

build(evidence)      findings, recipe and verdict as one offline HTML page
judge(...)           the verdict, by stated rules
"""

from separatrix.report.finding import Finding, Made, Picture, Run, show
from separatrix.report.page import Evidence, build
from separatrix.report.verdict import Criterion, Escape, Judgement, ReportedHorizon, Standing, judge

__all__ = [
    "Criterion",
    "Escape",
    "Evidence",
    "Finding",
    "Judgement",
    "Made",
    "Picture",
    "ReportedHorizon",
    "Run",
    "Standing",
    "build",
    "judge",
    "show",
]
