# The service for CPUs:   docker build --target service --tag fingerpost:cpu .
# The service for CUDA:   docker build --target service --build-arg VARIANT=gpu --tag fingerpost:gpu .
# The trainer:            docker build --target trainer --tag fingerpost-trainer .
ARG VARIANT=cpu

FROM scratch AS source
COPY pyproject.toml README.md LICENSE constraints.txt /
COPY deploy/docker /deploy/docker
COPY deploy/haproxy /deploy/haproxy
COPY fingerpost /fingerpost
COPY service /service
COPY reference_db /reference_db
COPY models /models

# The base image of the service: Python 3.12 without pip or compilers.
FROM python:3.12-slim-trixie AS python-cpu
RUN python3 -m pip uninstall --yes pip

# ONNX Runtime uses the CUDA 13 and cuDNN 9 of this image. FAISS searches on the CPU.
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS python-gpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*
ENV FINGERPOST_EXECUTION_PROVIDERS='["CUDAExecutionProvider", "CPUExecutionProvider"]'

FROM python:3.12-slim-trixie AS pip-cpu

FROM python-gpu AS pip-gpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3006
FROM pip-${VARIANT} AS installed
ARG VARIANT
WORKDIR /source
RUN --mount=type=bind,from=source,target=/source,rw --mount=type=cache,target=/root/.cache/pip \
    sh deploy/docker/install.sh /opt/fingerpost "$VARIANT"

# hadolint ignore=DL3006
FROM python-${VARIANT} AS service
LABEL org.opencontainers.image.title="Fingerpost" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=installed /opt/fingerpost /opt/fingerpost
COPY --from=source /deploy/docker/healthy.py /opt/fingerpost/healthy.py
# The root file system may be read-only. The service buffers uploads in /tmp: mount a disk there, not a tmpfs.
# The reference database is in /var/lib/fingerpost, unless FINGERPOST_REDIS_URL names a Redis.
# The service starts only with API keys in /etc/fingerpost. Mount the folder: a container never sees a new version of
# a file that is mounted by itself.
RUN install --directory --owner=10001 --group=10001 /var/lib/fingerpost
ENV PATH=/opt/fingerpost/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FINGERPOST_HOST=0.0.0.0 \
    FINGERPOST_PORT=8080 \
    FINGERPOST_DATABASE_DIRECTORY=/var/lib/fingerpost \
    FINGERPOST_KEYS_FILE=/etc/fingerpost/keys.json
USER 10001:10001
WORKDIR /var/lib/fingerpost
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 CMD ["python3", "/opt/fingerpost/healthy.py"]
ENTRYPOINT ["fingerpost", "serve"]

# Ray tracing on the CPU needs LLVM. torch brings its own CUDA libraries.
FROM python:3.12-slim-trixie AS trainer
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libllvm19 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
RUN --mount=type=bind,from=source,target=/source,rw --mount=type=cache,target=/root/.cache/pip \
    sh deploy/docker/install.sh /opt/fingerpost cpu,train \
    && install --directory --owner=10001 --group=10001 /work
ENV PATH=/opt/fingerpost/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["fingerpost-train"]
