"""Is federated training as good as central training? One factor changed at a time."""
