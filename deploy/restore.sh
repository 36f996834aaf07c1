#!/bin/sh
# Put the databases back as backup.sh dumped them: restore.sh FOLDER, into the databases that databases.sql makes. What
# they hold is replaced. MLflow must not run meanwhile.
set -eu
for database in mlflow mlflow_auth; do
    pg_restore --clean --if-exists --exit-on-error --single-transaction --dbname="$database" "$1/$database.dump"
done
