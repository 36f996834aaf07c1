# The tracking server's image: MLflow with accounts, and of the pipeline only what writes its audit log. Built from the repository's root:
#   docker build -f deploy/server.Dockerfile -t pcc-tracking-server .
FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --create-home mlflow && install --directory --owner=mlflow --mode=700 /audit
WORKDIR /srv
COPY constraints.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt \
    "mlflow[auth]" "psycopg[binary]" google-cloud-storage
COPY deploy/tracking_server.py deploy/basic_auth.ini deploy/
COPY deploy/mlflow_app deploy/mlflow_app
COPY pcc_pipeline/__init__.py pcc_pipeline/errors.py pcc_pipeline/files.py pcc_pipeline/interruption.py \
    pcc_pipeline/processes.py pcc_pipeline/
COPY pcc_pipeline/auditing pcc_pipeline/auditing
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
USER mlflow
EXPOSE 5000
ENTRYPOINT ["python", "deploy/tracking_server.py"]
