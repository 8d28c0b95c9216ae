"""What makes files of this repository and its documentation; nothing at runtime needs it."""
