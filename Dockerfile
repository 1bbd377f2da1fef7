# The project with the versions that CI ran, for Docker, and for the pods of jobs/templates/kuberay_rayjob.yaml.
# NOT BUILT HERE: a test parses it and installs from the files that it copies; no image has been made of it.
#
#   docker build --build-arg TORCH=cpu -t action-recognition .        for machines without a GPU
#   docker build --build-arg TORCH=cuda -t action-recognition .       the wheels of PyPI, with CUDA's libraries
#   docker run --rm -v "$PWD/my_clips:/data" action-recognition python -m pipeline pack --videos /data --out /tmp/shards --split train
#   docker run --rm --gpus all --shm-size 16g ...                     training: loaders hand batches over in /dev/shm
#
# A third value of TORCH is the name of another of PyTorch's indexes, such as cu128 for older drivers.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

ARG TORCH=cpu
ARG EXTRAS=s3,gs,transformers

# wget: KubeRay's probes. procps: pgrep of the health check.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash procps wget \
    && rm -rf /var/lib/apt/lists/*

# Torch first and by itself: the largest layer, which changes least, and the one that decides which build others find.
COPY constraints.txt /app/
RUN if [ "$TORCH" = cuda ]; then index=; else index="--index-url https://download.pytorch.org/whl/$TORCH"; fi \
    && pip install --no-cache-dir $index "$(grep '^torch==' /app/constraints.txt)"

WORKDIR /app
COPY pyproject.toml README.md LICENSE /app/
COPY datamodules /app/datamodules
COPY lightning_modules /app/lightning_modules
COPY pipeline /app/pipeline
COPY jobs /app/jobs
RUN pip install --no-cache-dir --constraint constraints.txt --editable ".[$EXTRAS]"

# 1000 is also the user of Ray's own images, so volumes that were made for them stay writable.
RUN useradd --create-home --uid 1000 user && chown user /app
USER user
ENV PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# A container without a Ray node (a single command) is healthy as long as it runs.
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 \
    CMD ! pgrep -x raylet > /dev/null || ray status > /dev/null

CMD ["python", "-m", "pipeline", "--help"]
