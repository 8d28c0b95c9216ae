"""Simulated federations on this machine, the demo, and the benchmark suite."""
