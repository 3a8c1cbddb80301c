"""Hostile clients, for `perf/hostile`."""
