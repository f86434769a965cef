FROM buildpack-deps:bookworm-curl
ARG SUM=0123
RUN set -eu; \
    curl -fsSL -o /tmp/install.sh https://example.com/install.sh; \
    echo "$SUM  /tmp/install.sh" | sha256sum -c -; \
    sh /tmp/install.sh; \
    rm /tmp/install.sh
USER 1000
