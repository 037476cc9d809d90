# The commands in a container; as it is, nano served over HTTP.
#   docker build -t kronos_nb .
#   docker build -t kronos_nb:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run -p 127.0.0.1:8000:8000 -e KRONOS_SERVE_TOKEN=... kronos_nb
#   docker run --gpus all --user "$(id -u)" -v "$PWD":/work kronos_nb:cuda kronos_train_sequential --config configs/my.yaml
# .ci/image says whether an image is good.
FROM python:3.12-slim AS wheel
WORKDIR /src
RUN pip install --no-cache-dir build
COPY . .
RUN python -m build --wheel

FROM python:3.12-slim
# where torch comes from: for the CPU; or from PyPI with the newest CUDA, whose libraries are wheels too; or from an index
# of PyTorch's for another version of CUDA
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir torch --index-url "$TORCH_INDEX"
COPY --from=wheel /src/dist/*.whl /tmp/wheel/
RUN pip install --no-cache-dir "$(ls /tmp/wheel/*.whl)[serve,evaluate]" && rm -r /tmp/wheel
# compiled loops are kept in /cache, for whatever user the container is run as; a volume keeps them for the next container
RUN useradd --create-home kronos && mkdir /work && chown kronos /work && mkdir --mode 1777 /cache
USER kronos
ENV NUMBA_CACHE_DIR=/cache/numba
WORKDIR /work
EXPOSE 8000
# a public address needs KRONOS_SERVE_TOKEN; without it the server refuses to start
CMD ["kronos_serve", "nano", "--host", "0.0.0.0", "--port", "8000"]
