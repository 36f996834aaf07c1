"""Local folders and Google Cloud Storage behind one `ObjectStore`; the only floor that imports google.cloud."""
