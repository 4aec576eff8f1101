# sfrbench in a container: docs/how-to/install.md
#   docker build -t sfrbench .                                          torch for CPUs
#   docker build -t sfrbench:cuda --build-arg TORCH_INDEX= .            torch as PyPI has it: with CUDA, for NVIDIA GPUs
#   mkdir -p runs && docker run --rm -v "$PWD/runs:/workspace" sfrbench run quickstart --profile smoke
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=dicom,export,notebook,nrrd
WORKDIR /src
COPY . .
RUN python -m venv /opt/sfrbench \
    && /opt/sfrbench/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
        -c constraints-cpu.txt ".[$EXTRAS]"

FROM python:${PYTHON}-slim-bookworm
# 1000 is the first user of most machines: what is written to a mounted folder is theirs
RUN useradd --create-home --uid 1000 sfrbench \
    && install -d -o sfrbench -g sfrbench /workspace /data /weights
COPY --from=build /opt/sfrbench /opt/sfrbench
ENV PATH=/opt/sfrbench/bin:$PATH \
    SFRBENCH_WORKSPACE=/workspace \
    SFRBENCH_DATA=/data \
    SFRBENCH_WEIGHTS=/weights
USER 1000
WORKDIR /workspace
VOLUME ["/workspace"]
ENTRYPOINT ["sfrbench"]
CMD ["--help"]
