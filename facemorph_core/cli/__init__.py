"""The `facemorph-core` command: one file per subcommand, each an entry point."""
