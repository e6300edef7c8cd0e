# The worker and its commands as an image:
#
#   docker build -t orders .
#   docker run --rm --network host --env-file .env orders migrate
#   docker run --network host --env-file .env --stop-timeout 40 -v orders:/var/lib/orders orders
#
# `--network host` is for servers on this machine, such as those of docker-compose.yml. Docker takes
# the values of an environment file as they are, with quotation marks.

ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/orders
# The dependencies first: they change less often than the code, and are not fetched again with it.
COPY requirements/app.txt requirements/
RUN /opt/orders/bin/pip install --no-cache-dir --require-hashes -r requirements/app.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY agents agents
COPY tables tables
COPY web web
COPY migrations migrations
RUN /opt/orders/bin/pip install --no-cache-dir --no-deps .

FROM python:${PYTHON}-slim-bookworm
RUN useradd --system --uid 10001 orders && install -d -o orders /var/lib/orders
COPY --from=build /opt/orders /opt/orders
ENV PATH=/opt/orders/bin:$PATH
# By number: Kubernetes cannot tell from a name that it is not root.
USER 10001
WORKDIR /var/lib/orders
VOLUME /var/lib/orders
EXPOSE 8080
ENTRYPOINT ["faust", "-A", "app", "--datadir", "/var/lib/orders", "-L", "uvloop"]
CMD ["worker", "-l", "info"]
