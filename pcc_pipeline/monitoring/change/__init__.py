"""Whether messages have changed: what is looked at of them, sketches of it, statistics, and one verdict over all."""
