"""Published versions, as the downstream system reads them: written, read, named."""
