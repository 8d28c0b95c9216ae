"""Pictures and films in files: their formats, their encoders, what they say of themselves."""
