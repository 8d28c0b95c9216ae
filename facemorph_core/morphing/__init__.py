"""Faces between two faces, and the files they are shown in.

`facemorph_core.morph` is the function to call. Nothing is imported here, so that the help of a
command does not load what a morph needs.
"""
