FROM fedora:42
RUN dnf install -y --setopt=install_weak_deps=False --nodocs \
        gcc \
        make \
    && dnf clean all
USER 1000
