# The product in one image; what a container does is the command's: `up`, or `up --only train` beside another machine.
FROM python:3.11-slim-bookworm AS environment
COPY requirements.lock /tmp/
# --no-deps: the lock is whole, every version and digest.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.lock \
    && /opt/venv/bin/pip check

FROM python:3.11-slim-bookworm
COPY --from=environment /opt/venv /opt/venv
COPY . /srv/marketplace
WORKDIR /srv/marketplace
RUN useradd --uid 10001 --home-dir /data market \
    && mkdir /data /blobs /keys \
    && chown market: /data /blobs /keys \
    && chmod 700 /keys
USER market
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data HOST=0.0.0.0 PORT=8000
VOLUME ["/data", "/blobs", "/keys"]
EXPOSE 8000
ENTRYPOINT ["python", "manage.py"]
CMD ["up"]
