FROM debian:bookworm-slim
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl gnupg \
    && curl -fsSL https://repo.example/key.asc | gpg --dearmor -o /etc/apt/keyrings/example.gpg \
    && echo "deb [signed-by=/etc/apt/keyrings/example.gpg] https://repo.example/deb stable main" > /etc/apt/sources.list.d/example.list \
    && apt-get update && apt-get install -y --no-install-recommends example-tool \
    && rm -rf /var/lib/apt/lists/*
USER 1000
