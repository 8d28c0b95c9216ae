"""What a morph costs from a cold start, beside what others publish."""
