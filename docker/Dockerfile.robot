# Builds and runs engines on a Jetson: JetPack 6.1 or later brings TensorRT 10.3 and CUDA 12.6.
# NVIDIA's l4t-jetpack image, tag r36.4.0 or later: --build-arg JETPACK_IMAGE=...
ARG JETPACK_IMAGE
FROM ${JETPACK_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python3-libnvinfer \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/vla-edge
COPY pyproject.toml README.md LICENSE ./
COPY runtime runtime
COPY export export
COPY bench bench
# 12.9.1 is the first that lets other threads run while it waits for the GPU.
RUN pip install --no-cache-dir . 'cuda-bindings>=12.9.1,<13'
RUN useradd --create-home --groups video robot
USER robot
