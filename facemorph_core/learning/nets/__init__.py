"""Frozen networks of others: they judge reconstructions or guide training, and do not learn."""
