# The project's image: every entry point as a container. Built from the repository's root:
#   docker build -f deploy/project.Dockerfile -t pcc-pipeline .
#   docker run --rm -e MLFLOW_TRACKING_URI -e MLFLOW_TRACKING_USERNAME -e MLFLOW_TRACKING_PASSWORD pcc-pipeline \
#     -e train --experiment-name pcc-intent -P data=gs://bucket/cases.parquet
FROM python:3.11.13-slim-bookworm
# git tells the commit that a run was made from; libgomp1 is scikit-learn's and torch's.
RUN apt-get update && apt-get install -y --no-install-recommends git libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home pcc && install -d -o pcc /srv/project /opt/venv
USER pcc
WORKDIR /srv/project
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
COPY --chown=pcc . .
# PyPI's torch brings CUDA along; this index has the build without.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt -e .
ENTRYPOINT ["mlflow", "run", ".", "--env-manager", "local"]
