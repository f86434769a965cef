FROM alpine:3.22
ENV NODE_VERSION=22.11.0
RUN addgroup -g 1000 node \
    && adduser -u 1000 -G node -s /bin/sh -D node \
    && apk add --no-cache \
        libstdc++ \
    && apk add --no-cache --virtual .build-deps \
        curl \
    && set -eu \
    && curl -fsSLO --compressed "https://unofficial-builds.example/node-v$NODE_VERSION-linux-x64-musl.tar.xz" \
    && echo "0123abcd  node-v$NODE_VERSION-linux-x64-musl.tar.xz" > sums \
    && sha256sum -c sums \
    && tar -xJf "node-v$NODE_VERSION-linux-x64-musl.tar.xz" -C /usr/local --strip-components=1 --no-same-owner \
    && ln -s /usr/local/bin/node /usr/local/bin/nodejs \
    && rm -f "node-v$NODE_VERSION-linux-x64-musl.tar.xz" sums \
    && apk del .build-deps \
    && node --version
COPY docker-entrypoint.sh /usr/local/bin/
USER node
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["node"]
