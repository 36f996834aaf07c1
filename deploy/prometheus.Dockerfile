# Prometheus with what it watches and when it calls somebody. Built from the repository's root:
#   docker build -f deploy/prometheus.Dockerfile -t pcc-prometheus .
FROM prom/prometheus:v3.15.0
COPY deploy/prometheus/prometheus.yml deploy/prometheus/rules.yml /etc/prometheus/
USER nobody
