FROM debian:bookworm-slim
SHELL ["/bin/bash", "-euxo", "pipefail", "-c"]
RUN curl -fsSL https://example.com/x.tar.gz | tar -xz -C /opt
RUN <<EOF
set -o pipefail
sort /etc/passwd | head -n1 > /tmp/x
EOF
USER 1000
