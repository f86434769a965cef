# syntax=docker/dockerfile:1
FROM golang:1.26-alpine AS build
WORKDIR /src
RUN --mount=type=bind,target=. \
    --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    go build -o /bin/server .

FROM alpine:3.22
RUN apk add --no-cache ca-certificates tzdata \
    && adduser -D -u 10001 app
COPY --from=build /bin/server /usr/local/bin/
USER app
EXPOSE 8080
HEALTHCHECK --interval=30s CMD ["/usr/local/bin/server", "-health"]
CMD ["/usr/local/bin/server"]
