"""What a step leaves on record: documents, tables, logs, and the options that it used."""
