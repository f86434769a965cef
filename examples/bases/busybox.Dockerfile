# A stand-in for docker.io/library/busybox, made from the static busybox of this machine. The context is the tree to put into it.
FROM scratch
COPY . /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["sh"]
