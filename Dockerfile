# gpu-env-validator on any image that has Python >= 3.10.
#
#   make image                                        a slim Python and torch==2.13.0
#   make image BASE_IMAGE=registry.example/train:42   your own image: its torch is judged, nothing in
#                                                     it changes version
#
# TORCH is installed only where the base has no torch. Package indexes are pip's own settings of the
# base image; TORCH_INDEX adds one for torch, such as https://download.pytorch.org/whl/cpu.
ARG PYTHON_VERSION=3.11
ARG BASE_IMAGE=python:${PYTHON_VERSION}-slim-bookworm
ARG INIT_IMAGE=debian:bookworm-slim

# A static init, so that it runs on a base of any distribution.
FROM ${INIT_IMAGE} AS init
# The distribution's release decides the version.
# hadolint ignore=DL3008
RUN if [ ! -x /usr/bin/tini-static ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends tini \
        && rm -rf /var/lib/apt/lists/*; \
    fi

FROM ${BASE_IMAGE} AS base
# For the build alone: the last stage sets its user.
# hadolint ignore=DL3002
USER 0
COPY tools/container.sh /opt/gpu-validator/build/
ARG BASE_PYTHON=
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
RUN sh /opt/gpu-validator/build/container.sh torch "${TORCH}" "${TORCH_INDEX}"

# What the package needs: changes only with pyproject.toml.
FROM base AS libraries
COPY pyproject.toml README.md LICENSE /src/
RUN sh /opt/gpu-validator/build/container.sh libraries /src /opt/gpu-validator/lib

FROM base AS package
COPY pyproject.toml README.md LICENSE gpu_env_validator.py /src/
COPY probes /src/probes
COPY validator /src/validator
RUN sh /opt/gpu-validator/build/container.sh package /src /opt/gpu-validator/app \
    && sh /opt/gpu-validator/build/container.sh command /opt/gpu-validator

FROM base
COPY --from=init /usr/bin/tini-static /opt/gpu-validator/bin/tini
COPY --from=libraries /opt/gpu-validator/lib /opt/gpu-validator/lib
COPY --from=package /opt/gpu-validator/app /opt/gpu-validator/app
COPY --from=package /opt/gpu-validator/bin /opt/gpu-validator/bin
COPY --from=package /opt/gpu-validator/python /opt/gpu-validator/python

# A GPU node is the rule: fewer than one is a fail. All GPUs, and what NVML and CUDA need of the driver.
ENV PATH=/opt/gpu-validator/bin:${PATH} \
    GPU_VALIDATOR_DEFAULTS__EXPECT__GPUS=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# What torch and the driver compile at first use has a place, whoever the user is: a home that
# cannot be written would make every run a first run. Folders that the base image names stay.
ENV XDG_CACHE_HOME=${XDG_CACHE_HOME:-/tmp} \
    CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-/tmp/nv}
# What failed under load is kept over a restart of the container; over its removal by a volume.
ENV GPU_VALIDATOR_DEFAULTS__FILES__FAILED=/var/lib/gpu-validator/failed.json
RUN install -d -m 1777 /var/lib/gpu-validator

# A number, so that Kubernetes can see that it is not root. Any other uid works as well.
ARG USER_ID=65532
USER ${USER_ID}
WORKDIR /
RUN ["/bin/sh", "/opt/gpu-validator/build/container.sh", "verify", "/opt/gpu-validator"]

EXPOSE 8790
# The base may name another one (web servers do), and by that the daemon would die instead of ending.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/opt/gpu-validator/bin/gpu-validator", "healthcheck"]
# -s: reaps as well where the pod's pause container, not this init, is process 1.
ENTRYPOINT ["/opt/gpu-validator/bin/tini", "-s", "--", "/opt/gpu-validator/bin/gpu-validator"]
CMD ["serve"]

ARG VERSION=
ARG REVISION=
ARG CREATED=
ENV VALIDATOR_IMAGE_REVISION=${REVISION}
LABEL org.opencontainers.image.title="gpu-env-validator" \
      org.opencontainers.image.description="Proves that the PyTorch in an image computes correctly on every GPU of a node" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/gpu-env-validator/gpu-env-validator" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
