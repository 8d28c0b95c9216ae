"""Attacks on what leaves a site: what one photo can do, and what the weights tell."""
