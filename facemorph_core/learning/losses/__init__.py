"""The terms of the objective, one value an image."""
