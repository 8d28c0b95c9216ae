"""Files: written whole or not at all, for their owner alone, known again by their hashes."""
