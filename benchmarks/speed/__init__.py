"""How fast: training against a textbook VAE, rounds against central training, preparation."""
