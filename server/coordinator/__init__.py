"""The coordinator's own tools. They never travel in the app bundle."""
