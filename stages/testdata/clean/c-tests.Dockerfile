# check=error=true
FROM alpine:3.22 AS base
RUN apk add --no-cache build-base cmake ninja

FROM base AS build
WORKDIR /src
COPY . .
RUN cmake -G Ninja -B /build && cmake --build /build

FROM build AS test
RUN ctest --test-dir /build --output-on-failure

FROM alpine:3.22
RUN apk upgrade --no-cache && apk add --no-cache libstdc++
COPY --from=build /build/app /usr/local/bin/
USER nobody
ENTRYPOINT ["app"]
