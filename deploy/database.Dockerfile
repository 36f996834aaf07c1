# PostgreSQL with the server's databases and the scripts of its backup. Built from the repository's root:
#   docker build -f deploy/database.Dockerfile -t pcc-database .
FROM postgres:15.18-bookworm
RUN install --directory --owner=postgres --group=postgres --mode=700 /backups
COPY deploy/databases.sql /docker-entrypoint-initdb.d/
COPY deploy/backup.sh deploy/restore.sh /usr/local/bin/
USER postgres
