# The command line of blindsr on a processor, without any network access when it runs:
#   docker build -t blindsr .
#   docker run --rm --network none --user "$(id -u):$(id -g)" -v "$PWD:/photos" blindsr estimate-and-upscale photo.jpg
# On an NVIDIA GPU (a larger image, as PyPI's torch for Linux carries the libraries of CUDA):
#   docker build --build-arg TORCH_INDEX=https://pypi.org/simple -t blindsr:cuda .
#   docker run --rm --gpus all …
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY blindsr blindsr
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Further packages of blindsr, such as EXTRAS="[heic,raw,astro]".
ARG EXTRAS=""
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" --constraint /tmp/constraints.txt torch
# The wheel is mounted and not copied, so that no layer keeps it.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /tmp/constraints.txt "$(echo /wheels/*.whl)$EXTRAS"
RUN useradd --uid 1000 --no-create-home blindsr
USER blindsr
# Any user may run it (--user), also one without a home.
ENV HOME=/tmp
WORKDIR /photos
ENTRYPOINT ["blindsr"]
CMD ["--help"]
