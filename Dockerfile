# One image for both programs: the command chooses.
#   docker run -p 127.0.0.1:9877:9877 -v "$PWD/pgslot.yml:/etc/pgslot/pgslot.yml:ro" IMAGE pg-slot-exporter --config.file=/etc/pgslot/pgslot.yml
#   docker run -p 127.0.0.1:9878:9878 -v ...                                         IMAGE pg-slot-healer --config.file=/etc/pgslot/pgslot.yml
FROM python:3.13.7-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/pgslot \
 && pip wheel --no-cache-dir --no-deps --wheel-dir /tmp/wheel . \
 && /opt/pgslot/bin/pip install --no-cache-dir /tmp/wheel/*.whl

FROM python:3.13.7-slim-bookworm
COPY --from=build /opt/pgslot /opt/pgslot
ENV PATH=/opt/pgslot/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes' runAsNonRoot can see that it is not root. It needs no name and no home.
USER 65532:65532
EXPOSE 9877 9878
# The exporter's port; for the healer override it with 9878, as docker-compose.yml does.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9877/-/healthy', timeout=3)"]
CMD ["pg-slot-exporter"]
