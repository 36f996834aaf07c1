# Grafana with the dashboards of the model server and of `monitor`. Built from the repository's root:
#   docker build -f deploy/grafana.Dockerfile -t pcc-grafana .
FROM grafana/grafana:13.2.3
COPY deploy/grafana/provisioning /etc/grafana/provisioning
COPY deploy/grafana/dashboards /etc/grafana/dashboards
USER grafana
