"""A model outside this program: graphs for other runtimes, fewer bits, how fast it runs here."""
