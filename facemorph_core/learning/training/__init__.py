"""Training at one site, centrally, and under differential privacy.

The submodules are imported one by one: `local` knows no Opacus, `private` does.
"""
