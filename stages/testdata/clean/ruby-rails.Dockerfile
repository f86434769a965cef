FROM ruby:3.4-slim AS build
RUN apt-get update -qq \
    && apt-get install --no-install-recommends -y build-essential git libpq-dev pkg-config \
    && rm -rf /var/lib/apt/lists /var/cache/apt/archives
WORKDIR /rails
COPY Gemfile Gemfile.lock ./
RUN bundle install && rm -rf ~/.bundle/
COPY . .
RUN SECRET_KEY_BASE_DUMMY=1 ./bin/rails assets:precompile

FROM ruby:3.4-slim
WORKDIR /rails
RUN groupadd --system --gid 1000 rails && useradd rails --uid 1000 --gid 1000 --create-home --shell /bin/bash
COPY --from=build --chown=rails:rails /rails /rails
USER 1000:1000
ENTRYPOINT ["/rails/bin/docker-entrypoint"]
CMD ["./bin/thrust", "./bin/rails", "server"]
