# One image for both programs: the command chooses.
#   docker run -p 127.0.0.1:9877:9877 -v "$PWD/pgslot.yml:/etc/pgslot/pgslot.yml:ro" IMAGE pg-slot-exporter --config.file=/etc/pgslot/pgslot.yml
#   docker run -p 127.0.0.1:9878:9878 -v ...                                         IMAGE pg-slot-healer --config.file=/etc/pgslot/pgslot.yml
# A tag may move. To build from the image that you have checked, give its digest, too: --build-arg PYTHON_IMAGE=python:TAG@sha256:...
ARG PYTHON_IMAGE=python:3.13.15-slim-trixie
FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY . .
# There is no compiler here and none is needed: without a wheel for this platform the build fails, instead of a later stage.
# Every package is checked against its checksum. The project has none, so it comes last, and brings no other package with it.
# The environment gets no pip of its own.
RUN pip install --require-hashes --only-binary=:all: --requirement=deploy/docker/build-requirements.txt \
 && pip wheel --no-index --no-deps --no-build-isolation --wheel-dir=/tmp/wheel . \
 && python -m venv --without-pip /opt/pgslot \
 && pip --python=/opt/pgslot install --require-hashes --only-binary=:all: --requirement=deploy/docker/requirements.txt \
 && pip --python=/opt/pgslot install --no-index --no-deps /tmp/wheel/*.whl \
 && pip --python=/opt/pgslot check

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/pgslot /opt/pgslot
COPY deploy/docker/healthcheck.py /opt/pgslot/healthcheck.py
ENV PATH=/opt/pgslot/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes' runAsNonRoot can see that it is not root. It needs no name and no home.
USER 65532:65532
EXPOSE 9877 9878
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "/opt/pgslot/healthcheck.py"]
CMD ["pg-slot-exporter"]
