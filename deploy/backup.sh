#!/bin/sh
# Dump the server's two databases into a folder: backup.sh FOLDER. Where PostgreSQL is, and its user and password, come
# from libpq's variables (PGHOST, PGPORT, PGUSER, PGPASSWORD). Copy the bucket after this, so that it holds every file
# that the dump speaks of.
set -eu
mkdir -p "$1"
for database in mlflow mlflow_auth; do
    pg_dump --format=custom --file="$1/$database.dump.part" "$database"
    mv "$1/$database.dump.part" "$1/$database.dump"
done
