"""The commands behind the scripts and mixnet-train, mixnet-eval and mixnet-export: flags, a screen, exit codes."""
