# `make demo` in a container, on a CPU or a GPU. Build and run it from a clone:
#
#     docker build --tag vaebench .
#     docker run --rm vaebench
#     docker build --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 --tag vaebench:cuda .
#     docker run --rm --gpus all --volume "$PWD/runs:/home/vaebench/suite/runs" vaebench:cuda
#
# Any base with apt-get will do. Pip's own variables choose where packages come from: --build-arg PIP_EXTRA_INDEX_URL=…
# with an index of torch's smaller builds for CPUs, for one.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && { command -v python3 > /dev/null || apt-get install --yes --no-install-recommends python3 python3-venv; } \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home vaebench

USER vaebench
WORKDIR /home/vaebench/suite
ARG PIP_EXTRA_INDEX_URL=
COPY --chown=vaebench . .
RUN PIP_NO_CACHE_DIR=1 make .venv/ready

CMD ["make", "demo"]
