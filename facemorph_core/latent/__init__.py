"""Ways through the space of codes."""
