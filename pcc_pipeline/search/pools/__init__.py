"""Who does the work of a search: processes of this machine, or the workers of a cluster."""
