FROM registry.example/ubi9/ubi-minimal:9.6
RUN microdnf install -y shadow-utils && microdnf clean all && useradd -l -u 1000540000 app
WORKDIR /opt/app
COPY --chown=app:0 --chmod=g=u target/app.jar ./
USER app
ENTRYPOINT ["java", "-jar", "app.jar"]
