FROM rust:1.91-slim AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && cargo fetch --locked
COPY src ./src
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/app /app

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /app /
USER nonroot
ENTRYPOINT ["/app"]
