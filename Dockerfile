# The package apparent-personality, with the page and the service. Two images:
#   docker build --tag apparent-personality:cpu .                              CPU
#   docker build --tag apparent-personality:gpu --build-arg DEVICE=gpu .       GPU with NVIDIA driver 580 or newer (CUDA 13)
# compose.yaml runs them.
ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# OpenCV needs the two libraries
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --shell /bin/bash user
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# for .devcontainer: the repository is mounted, and its requirements are installed there
FROM base AS dev
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git chromium \
    && rm -rf /var/lib/apt/lists/*
USER user

FROM base AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM base AS device-cpu
# builds without CUDA, which fulfil the requirements; for a mirror: --build-arg TORCH_INDEX=URL
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir torch==2.11.0 torchvision==0.26.0 --index-url "$TORCH_INDEX"

FROM base AS device-gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Triton compiles the optical flow for the GPU
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3006
FROM device-${DEVICE}
# before the code, so that a build after a change of code does not install them again
COPY requirements.txt requirements-page.txt requirements-serve.txt /requirements/
RUN cd /requirements && pip install --no-cache-dir -r requirements.txt -r requirements-page.txt -r requirements-serve.txt
COPY --from=wheel /dist /dist
RUN pip install --no-cache-dir --no-deps /dist/*.whl && pip check
USER 1000
WORKDIR /home/user
ENV NUMBA_CACHE_DIR=/home/user/.cache/numba
EXPOSE 7860 8000
ENTRYPOINT ["apparent-personality"]
CMD ["--help"]
