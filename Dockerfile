# A small image in which `annvq` runs:
#     docker build -t annvq .
#     docker run --rm -v "$PWD/data:/data" annvq build /data/embeddings.parquet -o /data/index
# What is mounted at /data has to be writable by user 1000, or run with --user.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY annvq annvq
COPY indexes indexes
# EXTRAS: e.g. --build-arg EXTRAS=[eval,plot]
ARG EXTRAS=
RUN python -m venv /opt/annvq && /opt/annvq/bin/pip install --no-cache-dir ".${EXTRAS}"

FROM python:3.12-slim
COPY --from=build /opt/annvq /opt/annvq
# Compiled kernels are used only where nobody but their owner can have written.
RUN useradd --create-home --uid 1000 annvq && install -d -o annvq -m 755 /var/cache/annvq
ENV PATH=/opt/annvq/bin:$PATH NUMBA_CACHE_DIR=/var/cache/annvq PYTHONDONTWRITEBYTECODE=1
USER 1000
# For the kind of CPU that builds the image; on another kind, kernels are compiled at their first use.
RUN annvq warmup --recipe balanced
WORKDIR /data
ENTRYPOINT ["annvq"]
CMD ["--help"]
