"""What makes the files in `facemorph_core/assets` again; nothing at runtime needs it."""
