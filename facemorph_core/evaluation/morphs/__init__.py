"""How good a morph is: per morph and over a set of pairs, modes side by side."""
