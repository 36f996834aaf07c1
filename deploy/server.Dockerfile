# The tracking server's image: MLflow with accounts, and of the pipeline only what writes its audit log. Built from the repository's root:
#   docker build -f deploy/server.Dockerfile -t pcc-tracking-server .
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY deploy/build_tools.txt ./
RUN python -m venv /opt/tools && /opt/tools/bin/pip install -r build_tools.txt
COPY constraints.txt ./
RUN python -m venv --without-pip /opt/venv && /opt/tools/bin/pip --python /opt/venv/bin/python install -c constraints.txt \
    "mlflow[auth]" "psycopg[binary]" google-cloud-storage
COPY deploy/finish_environment.sh ./
RUN sh finish_environment.sh /opt/venv /opt/tools

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --create-home mlflow && install --directory --owner=mlflow --mode=700 /audit
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv
COPY deploy/tracking_server.py deploy/basic_auth.ini deploy/
COPY deploy/mlflow_app deploy/mlflow_app
COPY pcc_pipeline/__init__.py pcc_pipeline/errors.py pcc_pipeline/files.py pcc_pipeline/interruption.py \
    pcc_pipeline/masking.py pcc_pipeline/processes.py pcc_pipeline/
COPY pcc_pipeline/auditing pcc_pipeline/auditing
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
USER 10001:10001
EXPOSE 5000
ENTRYPOINT ["python", "deploy/tracking_server.py"]
