"""The parts of `perf/compare` and `perf/report`."""
