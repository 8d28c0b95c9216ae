"""The machine beneath: what it is, its cores and processes, its ways to itself and to us."""
