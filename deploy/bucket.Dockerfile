# A bucket emulator in place of Google's, for a try on one machine: it knows no accounts. Built from the repository's root:
#   docker build -f deploy/bucket.Dockerfile -t pcc-bucket-emulator .
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY deploy/build_tools.txt ./
RUN python -m venv /opt/tools && /opt/tools/bin/pip install -r build_tools.txt
COPY constraints.txt ./
RUN python -m venv --without-pip /opt/venv && \
    /opt/tools/bin/pip --python /opt/venv/bin/python install -c constraints.txt gcp-storage-emulator
COPY deploy/finish_environment.sh ./
RUN sh finish_environment.sh /opt/venv /opt/tools

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --create-home bucket && install --directory --owner=bucket --mode=700 /bucket
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 9023
ENTRYPOINT ["gcp-storage-emulator", "--data-dir", "/bucket", "start", "--host", "0.0.0.0", "--port", "9023", "--default-bucket"]
CMD ["pcc-try"]
