"""How good a model is: its reconstructions and its morphs, with intervals over people."""
