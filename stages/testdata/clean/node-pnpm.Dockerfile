FROM node:22-slim
ENV PNPM_HOME=/pnpm
ENV PATH=$PNPM_HOME:$PATH
RUN corepack enable
WORKDIR /app
COPY pnpm-lock.yaml ./
RUN --mount=type=cache,id=pnpm,target=/pnpm/store pnpm fetch --frozen-lockfile
COPY . ./
RUN --mount=type=cache,id=pnpm,target=/pnpm/store pnpm install --offline && pnpm run build
USER node
CMD ["pnpm", "start"]
