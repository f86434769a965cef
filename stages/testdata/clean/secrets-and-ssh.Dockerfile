# syntax=docker/dockerfile:1
FROM alpine:3.22
RUN apk add --no-cache git openssh-client
RUN --mount=type=ssh --mount=type=secret,id=npmrc,target=/root/.npmrc,required=true \
    git clone git@github.com:example/private.git /src
RUN --mount=type=secret,id=token,env=TOKEN wget --header "Authorization: Bearer $TOKEN" -O /x https://example.com/x
WORKDIR /src
USER 1000
CMD ["./run"]
