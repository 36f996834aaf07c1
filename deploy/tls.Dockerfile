# Caddy with our Caddyfile, under an account without rights. Built from the repository's root:
#   docker build -f deploy/tls.Dockerfile -t pcc-tls .
FROM caddy:2.11.7-alpine
# The program asks for a right that lets it listen below port 1024; in containers everybody may, and ours has no rights.
RUN setcap -r /usr/bin/caddy && chown -R 10002:10002 /data
COPY deploy/Caddyfile /etc/caddy/Caddyfile
# What it would keep of its settings, it has from the file.
ENV XDG_CONFIG_HOME=/tmp
USER 10002:10002
