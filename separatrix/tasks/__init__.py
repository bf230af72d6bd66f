"""Benchmarks: data, a metric, and forecasts that cost nothing to hold a model against."""
