FROM alpine:3.22 AS fetch
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/tool.tar.gz /tmp/
ADD rootfs.tar.xz /rootfs/
ADD https://github.com/example/src.git#v1.2.3 /src
RUN tar -xzf /tmp/tool.tar.gz -C /usr/local

FROM scratch
COPY --from=fetch /rootfs/ /
COPY --from=fetch /usr/local/bin/tool /usr/local/bin/
USER 1000
