"""One HTML page of what an evaluation found: curves, tables, players and a blind listening test."""

from encodec_hk.evaluation.report.page import write

__all__ = ["write"]
