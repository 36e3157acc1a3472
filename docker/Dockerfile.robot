# A Jetson with JetPack 6.1 or 6.2: the runtime, vla-build, vla-bundle, vla-doctor, vla-run. No torch, no compiler.
# NVIDIA's image of Jetson Linux 36.4 with the run-time libraries of CUDA 12.6 and TensorRT 10.3.
FROM nvcr.io/nvidia/l4t-tensorrt:r10.3.0-runtime AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The key's SHA-256 is that which other public recipes for Jetson pin.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl python3 \
 && curl -fsSL -o /usr/share/keyrings/jetson.asc https://repo.download.nvidia.com/jetson/jetson-ota-public.asc \
 && echo "576f852981855e5c6cfb9b625ffb51b984ca451f1181b2e70435b005034fad55  /usr/share/keyrings/jetson.asc" \
  | sha256sum --check \
 && echo "deb [signed-by=/usr/share/keyrings/jetson.asc] https://repo.download.nvidia.com/jetson/common r36.4 main" \
  > /etc/apt/sources.list.d/vla-edge-jetson.list \
 && apt-get update \
 && apt-get install -y --no-install-recommends \
    libnvinfer10=10.3.0.30-1+cuda12.5 \
    libnvonnxparsers10=10.3.0.30-1+cuda12.5 \
    python3-libnvinfer=10.3.0.30-1+cuda12.5 \
 && rm -rf /var/lib/apt/lists/*

FROM base AS install
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install uv==0.13.9
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE docker/robot-requirements.txt ./
COPY runtime runtime
COPY export export
COPY bench bench
# It sees the system's packages: tensorrt is one of them.
RUN /opt/uv/bin/uv venv --python /usr/bin/python3 --system-site-packages /opt/vla-edge \
 && /opt/uv/bin/uv pip install --python /opt/vla-edge/bin/python --only-binary :all: --require-hashes \
    --requirement robot-requirements.txt \
 && /opt/uv/bin/uv pip install --python /opt/vla-edge/bin/python --no-deps \
    --build-constraints constraints.txt .

FROM base
COPY --from=install /opt/vla-edge /opt/vla-edge
# Any user may be named with --user, so that what is written is his: nothing here is one user's, home is /tmp.
ENV PATH=/opt/vla-edge/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all
WORKDIR /robot
USER 1000:1000
STOPSIGNAL SIGTERM
# Whether GPU, driver and TensorRT still let a policy run, without GPU memory. Whether the loop runs is its own watch's.
HEALTHCHECK --interval=5m --timeout=60s --start-period=2m --retries=2 CMD ["vla-doctor", "--running"]
CMD ["vla-doctor"]
