FROM python:3.11-slim
WORKDIR /opt/tenfold
COPY pyproject.toml constraints.txt README.md ./
COPY schemas schemas
COPY models models
COPY streams streams
COPY loadtest loadtest
RUN pip install --no-cache-dir -c constraints.txt -e . && useradd --system tenfold && chown -R tenfold /opt/tenfold
USER tenfold
EXPOSE 9464
ENTRYPOINT ["tenfold"]
CMD ["worker"]
