# The project's image: every command of `pcc` as a container. Built from the repository's root:
#   docker build -f deploy/project.Dockerfile --build-arg REVISION="$(git describe --always --abbrev=40 --dirty --exclude '*')" -t pcc-pipeline .
# docs/operations.md says how to run it. All that it keeps lies in /srv/project/outputs, which is its user's home too.
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/build_tools.txt /opt/
RUN python -m venv /opt/tools && /opt/tools/bin/pip install -r /opt/build_tools.txt
# PyPI's torch brings CUDA along; this index has the build without.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# Its packages before its code, so that a change of the code installs none anew: openvino encodes several times as fast as
# torch, postgresql reaches a study in a database, notify sends alerts, redis shares vectors, serve answers over HTTP.
# pip stays, since MLflow writes its version beside each model.
WORKDIR /packages
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir pcc_pipeline && touch pcc_pipeline/__init__.py && python -m venv /opt/venv && \
    /opt/tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir . . && \
    /opt/tools/bin/pip --python /opt/venv/bin/python install -c constraints.txt "$(ls *.whl)[openvino,postgresql,notify,redis,serve]"
WORKDIR /code
COPY pyproject.toml README.md ./
COPY pcc_pipeline pcc_pipeline
RUN /opt/tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir . . && \
    /opt/tools/bin/pip --python /opt/venv/bin/python install --no-deps --force-reinstall *.whl
COPY deploy/finish_environment.sh ./
RUN sh finish_environment.sh /opt/venv /opt/tools

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --home-dir /srv/project/outputs pcc && install --directory --owner=pcc --group=pcc --mode=700 /srv/project/outputs
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/project
COPY MLproject conda.yaml params.yaml ./
COPY entrypoints entrypoints
# The commit that runs tell, as there is no checkout here.
ARG REVISION
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true \
    GIT_PYTHON_REFRESH=quiet PCC_CODE_REVISION=$REVISION
LABEL org.opencontainers.image.revision=$REVISION
USER 10001:10001
RUN pcc --version
# `pcc` closes its runs when it is told to stop; `mlflow run` would not pass that on.
ENTRYPOINT ["pcc"]
CMD ["--help"]
