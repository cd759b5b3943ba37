# docker build -t redweir .
# docker run -p 6379:6379 -p 9736:9736 redweir --listen 0.0.0.0:6379 --admin 0.0.0.0:9736 \
#     --sentinel sentinel-1:26379,sentinel-2:26379 --master-name mymaster
FROM rust:1-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin redweir && \
    cp target/release/redweir /redweir

FROM debian:bookworm-slim
COPY --from=build /redweir /usr/local/bin/redweir
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 6379 9736
# Asks the admin port, so --admin must include 127.0.0.1 (0.0.0.0 does) and this port.
HEALTHCHECK --interval=5s --timeout=4s --start-period=5s --retries=3 \
    CMD ["redweir", "healthcheck", "--admin", "127.0.0.1:9736"]
ENTRYPOINT ["redweir"]
