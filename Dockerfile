FROM rust:1.95-slim-bookworm AS build
# SQLite and ring are compiled from C.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Told by `--version` and /health/live: docker build --build-arg GIT_COMMIT=$(git rev-parse --short=12 HEAD)
ARG GIT_COMMIT
ARG SOURCE_DATE_EPOCH
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/cht-fhir-mediator /cht-fhir-mediator && mkdir /journal

# libc and root certificates: no shell, no package manager, and a user that is not root.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /cht-fhir-mediator /usr/local/bin/cht-fhir-mediator
# Listens on loopback unless told otherwise: set MEDIATOR__SERVER__LISTEN=0.0.0.0:3410, and clients.
# The journal is here and nothing else is written: the root file system may be read-only. Owned by the user
# that the mediator runs as; a volume made here takes its owner from it.
COPY --from=build --chown=nonroot:nonroot /journal /var/lib/cht-fhir-mediator
VOLUME /var/lib/cht-fhir-mediator
WORKDIR /var/lib/cht-fhir-mediator
USER nonroot
EXPOSE 3410
# The image has no shell and no curl: the binary asks for itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/local/bin/cht-fhir-mediator", "health"]
ENTRYPOINT ["/usr/local/bin/cht-fhir-mediator"]
CMD ["serve"]
