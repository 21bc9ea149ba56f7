# An image that runs a service of yours: put your `app.py` with its `app` next to it and build
#
#     FROM cliffracer
#     COPY . .
#
# or mount the folder: docker run -v "$PWD:/app" -e NATS_URL=nats://nats:4222 -p 8000:8000 cliffracer
# Another module or more than one: docker run ... cliffracer run users:app orders:app
# What `cliffracer deploy compose` and `deploy k8s` write runs such an image, too: it overrides the entry point.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY requirements/base.txt requirements/build.txt requirements/
RUN python -m venv /opt/build /opt/cliffracer \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && /opt/cliffracer/bin/pip install --no-cache-dir --require-hashes -r requirements/base.txt
COPY pyproject.toml README.md LICENSE ./
COPY cliffracer cliffracer
RUN /opt/build/bin/python -m build --no-isolation --wheel \
    && /opt/cliffracer/bin/pip install --no-cache-dir --no-deps --no-index dist/*.whl \
    && /opt/cliffracer/bin/python -m compileall -q /opt/cliffracer/lib

FROM python:${PYTHON}-slim
# The standard library comes without its bytecode, which this user may not write: each start and health check would compile it anew.
RUN python -m compileall -q -x 'site-packages|idlelib|lib2to3|tkinter|/tests?/' /usr/local/lib
COPY --from=build /opt/cliffracer /opt/cliffracer
ENV PATH=/opt/cliffracer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CLIFFRACER_ENV=production \
    HTTP_HOST=0.0.0.0 \
    HTTP_PORT=8000
WORKDIR /app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["cliffracer", "health"]
ENTRYPOINT ["cliffracer"]
CMD ["run", "app:app"]
