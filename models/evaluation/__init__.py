"""Measure a model: figures with intervals, calibration, cost, tables and pages. No torch here."""
