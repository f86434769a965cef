FROM python:3.13-slim
ENV PIP_NO_CACHE_DIR=1
RUN pip install poetry==2.1.0
WORKDIR /app
COPY pyproject.toml poetry.lock ./
RUN poetry install --no-root --only main
COPY . .
RUN poetry install --only main
USER 1000
ENTRYPOINT ["poetry", "run", "serve"]
