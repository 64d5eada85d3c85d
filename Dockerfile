# An environment with the suite installed. Not built by us: there was no docker where this file was written.
#
#   docker build -t spm_mm .                                   # CPU
#   docker build -t spm_mm --build-arg BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 .   # with an NVIDIA GPU
#   docker run --rm -it spm_mm python tools/doctor.py
#   docker run --rm -it --gpus all -v /path/to/data:/workspace/data spm_mm bash
#
# BASE is any Debian or Ubuntu whose python3 is 3.10 to 3.13. PyTorch brings its own CUDA libraries.
ARG BASE=python:3.13-slim
FROM ${BASE}

RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash make git libglib2.0-0 \
    && if ! command -v python3 >/dev/null; then \
        apt-get install --yes --no-install-recommends python3 python3-venv; fi \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /workspace
COPY . .
RUN make setup
ENV PATH=/workspace/.venv/bin:${PATH}
CMD ["bash"]
