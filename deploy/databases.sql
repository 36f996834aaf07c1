-- The two databases of the tracking server and the role that owns them; run once, on an empty cluster, by its superuser.
-- The password comes from the environment and is stored hashed (scram-sha-256).
\set ON_ERROR_STOP on
\getenv password PCC_SERVER_DB_PASSWORD
SET password_encryption = 'scram-sha-256';
CREATE ROLE mlflow LOGIN PASSWORD :'password';
-- Whatever the cluster's encoding is; MLflow does not run on SQL_ASCII.
CREATE DATABASE mlflow OWNER mlflow ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE mlflow_auth OWNER mlflow ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT ON DATABASE mlflow, mlflow_auth FROM PUBLIC;
-- The superuser then logs in over the local socket only, never over the network.
ALTER ROLE CURRENT_USER PASSWORD NULL;
