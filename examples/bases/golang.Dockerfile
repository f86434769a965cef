# A stand-in for docker.io/library/golang: busybox and the Go toolchain of this machine. The context is its GOROOT.
ARG BUSYBOX_VERSION=1.35
FROM busybox:${BUSYBOX_VERSION}
COPY . /usr/local/go
ENV GOPATH=/go GOTOOLCHAIN=local PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /go
