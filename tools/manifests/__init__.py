"""What deployment manifests are written in, variables and routes: one reader for the runtime and for the check."""
