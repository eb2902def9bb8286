# An image with a static binary and a CA bundle.
#   docker build -t portcullis .
#   docker run -p 3000:3000 -v ./my-config-folder:/etc/portcullis:ro portcullis
ARG BASE=rust:1-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY . .
# With an explicit target, crt-static does not apply to build scripts and proc macros.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --features otlp --bin portcullis --target "$target" \
 && cp "target/$target/release/portcullis" /portcullis

# The backend of examples/docker-compose, with `--target echo`.
FROM build AS build-echo
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --features otlp --example echo --target "$target" \
 && cp "target/$target/release/examples/echo" /echo

FROM scratch AS echo
COPY --from=build-echo /echo /echo
USER 65532:65532
ENTRYPOINT ["/echo"]
CMD ["0.0.0.0:8080"]

FROM scratch
LABEL org.opencontainers.image.title="portcullis" \
      org.opencontainers.image.description="A JWT-authenticating reverse proxy with CEL authorization rules" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/LICENSE /LICENSE
COPY --from=build /portcullis /portcullis
# Numeric, so that Kubernetes can verify that the user is not root.
USER 65532:65532
# Relative paths in a config, such as jwks.file, are resolved here.
WORKDIR /etc/portcullis
# Requests, metrics, readiness. The admin address is on loopback and not exposed.
EXPOSE 3000 15020 15021
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/portcullis", "health"]
ENTRYPOINT ["/portcullis"]
CMD ["-f", "/etc/portcullis/config.yaml"]
