"""The `ripeloop` command: what operators and scheduled jobs run."""
