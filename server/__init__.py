"""The Flower ServerApp, its run directory, and the coordinator's commands."""
