"""The HTTP server around a registered model: what comes at one time is answered together, by the champion of now."""
