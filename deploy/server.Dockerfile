# The tracking server's image: MLflow with accounts, and no code of the pipeline. Built from the repository's root:
#   docker build -f deploy/server.Dockerfile -t pcc-tracking-server .
FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --create-home mlflow
WORKDIR /srv
COPY constraints.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt \
    "mlflow[auth]" "psycopg[binary]" google-cloud-storage
COPY deploy/tracking_server.py deploy/basic_auth.ini deploy/
COPY deploy/mlflow_app deploy/mlflow_app
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
USER mlflow
EXPOSE 5000
ENTRYPOINT ["python", "deploy/tracking_server.py"]
