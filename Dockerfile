# resdet in a container, set up as in a checkout. Linted, and its steps were tried without an
# engine; no image of it was built by the project so far.
#
#   docker build -t resdet --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
#   docker run --rm resdet                                  what is installed and found
#   docker run --rm -v "$PWD/runs:/resdet/runs" resdet demo
#
# With GPUs (torch's own wheels contain the CUDA libraries, so a "base" image is enough):
#
#   docker build -t resdet:cuda --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 .
#   docker run --rm --gpus all --shm-size 8g -v /data:/data -e DETECTRON2_DATASETS=/data \
#       -v "$PWD/runs:/resdet/runs" resdet:cuda train_det --config configs/coco_r101.yaml
#
# The user in it has the id UID (1000): a mounted folder must be writable for that one.
ARG BASE=ubuntu:24.04
FROM ${BASE}

ARG UID=1000
# Versions come with the release that BASE names. The image's own user of that id makes room.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && if name="$(id --name --user "$UID" 2>/dev/null)"; then userdel --remove "$name"; fi \
    && useradd --create-home --uid "$UID" resdet \
    && install -d -o resdet /resdet /resdet/resdet
USER ${UID}
WORKDIR /resdet

# First what decides the packages, so that a change of the code does not fetch torch again.
COPY --chown=resdet LICENSE README.md constraints.txt pyproject.toml setup.py ./
COPY --chown=resdet tools tools
COPY --chown=resdet resdet/__init__.py resdet/
ARG TORCH_INDEX=""
RUN RESDET_TORCH_INDEX="$TORCH_INDEX" PIP_NO_CACHE_DIR=1 bash tools/setup.sh

COPY --chown=resdet . .
ENV PATH=/resdet/.venv/bin:$PATH
ENTRYPOINT ["resdet"]
CMD ["doctor"]
