# Nabla's programs and embedded models in one image.
#
#   docker build --tag nabla:cpu .                        # for CPUs
#   docker build --tag nabla:cuda --build-arg VARIANT=cuda .
#   docker run --publish 127.0.0.1:50051:50051 nabla:cpu
#
# TORCH_INDEX names a package index for libtorch, else pip's own setting holds. Where that index has wheels for CUDA alone, as the
# public one does, the cpu variant needs another (pytorch.org's installation page names it) and says so.
FROM debian:bookworm-slim AS build
ARG VARIANT=cpu
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      build-essential ca-certificates cmake ninja-build pkg-config python3 python3-pip \
      libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libabsl-dev prometheus-cpp-dev \
      libssl-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev libhwy-dev \
    && rm -rf /var/lib/apt/lists/*

# The cpu variant is torch's wheel alone; the cuda variant comes with NVIDIA's libraries, which it loads from beside it.
# hadolint ignore=DL3013
RUN case "$VARIANT" in \
      cpu) dependencies=--no-deps ;; \
      cuda) dependencies= ;; \
      *) echo "VARIANT must be cpu or cuda, got $VARIANT" >&2; exit 1 ;; \
    esac \
    && pip install --no-cache-dir --quiet --target=/opt/nabla/python ${TORCH_INDEX:+"--index-url=$TORCH_INDEX"} \
      ${dependencies:+"$dependencies"} "torch==$TORCH_VERSION" \
    && if [ "$VARIANT" = cpu ] && [ -e /opt/nabla/python/torch/lib/libtorch_cuda.so ]; then \
         echo "the package index gave a CUDA wheel; name one with CPU wheels by --build-arg TORCH_INDEX=URL" >&2; exit 1; \
       fi

WORKDIR /src
COPY . .
RUN cmake -S . -B build/image -G Ninja -DCMAKE_BUILD_TYPE=Release -DNABLA_BUILD_TESTS=OFF -DNABLA_BUILD_BENCH=OFF -DNABLA_LIBTORCH=/opt/nabla/python/torch \
    && cmake --build build/image --target nabla nabla-server nabla-reward-server \
    && install -D --strip --target-directory=/image/opt/nabla/bin \
      build/image/bin/nabla build/image/bin/nabla-server build/image/bin/nabla-reward-server \
    && mkdir -p /image/opt/nabla/models && cp -r models/writer models/judge models/classifier /image/opt/nabla/models/

# Libraries alone, where the programs look for them; Python's bindings stay behind.
WORKDIR /opt/nabla
RUN find python -path '*/lib/*.so*' ! -name 'libtorch_python*' ! -name 'libshm*' -print0 \
      | xargs --null cp --parents --no-dereference --target-directory=/image/opt/nabla

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      libgrpc++1.51 libprotobuf32 libabsl20220623 libprometheus-cpp-core1.0 libprometheus-cpp-pull1.0 \
      libssl3 libpcre2-8-0 libutf8proc2 libhwy1 libgomp1 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /opt/nabla nabla
COPY --from=build /image/ /
ENV PATH=/opt/nabla/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Paths in a config file may be relative to this.
WORKDIR /opt/nabla
USER 10001:10001
EXPOSE 50051 9464
# Another service or port is asked about with another health check, see deploy/compose.yaml.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["nabla", "health", "--timeout=3s"]
ENTRYPOINT ["nabla-server"]
CMD ["--host=0.0.0.0", "--model=models/writer", "--reward_model=models/judge"]
