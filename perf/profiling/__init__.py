"""The parts of `perf/flamegraph` and `perf/profile`."""
