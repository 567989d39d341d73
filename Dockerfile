# docker build -t preimage . && docker run --rm -p 7860:7860 -e PREIMAGE_PASSWORD=… preimage
FROM python:3.11-slim
# another build of torch: --build-arg TORCH="torch --index-url URL"
ARG TORCH=torch
RUN pip install --no-cache-dir ${TORCH}
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir ".[app]" && useradd --create-home explorer
USER explorer
EXPOSE 7860
CMD ["python", "app.py"]
