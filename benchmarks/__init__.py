"""The benchmarks: how good a face comes back out of a few numbers, beside honest floors."""
