FROM debian:bookworm-slim
RUN <<EOF
set -eu
apt-get update
apt-get install -y --no-install-recommends ca-certificates jq
rm -rf /var/lib/apt/lists/*
EOF
COPY <<'EOF' /etc/app.conf
path = C:\temp
EOF
USER 1000
