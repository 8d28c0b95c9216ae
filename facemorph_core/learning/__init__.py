"""Everything that needs torch: models, losses, training, privacy, and a run made a bundle."""
