"""`python -m facemorph_core` is `facemorph-core`."""

from facemorph_core.cli.main import main

if __name__ == "__main__":
    main()
