"""One study that several machines search together, in PostgreSQL."""
