FROM buildpack-deps:bookworm
ENV PATH=/usr/local/bin:$PATH
RUN set -eux; \
	apt-get update; \
	apt-get install -y --no-install-recommends \
		libbluetooth-dev \
		tk-dev \
		uuid-dev \
	; \
	rm -rf /var/lib/apt/lists/*
ENV PYTHON_SHA256=0123
RUN set -eux; \
	wget -O python.tar.xz "https://www.python.example/ftp/Python.tar.xz"; \
	echo "$PYTHON_SHA256 *python.tar.xz" | sha256sum -c -; \
	mkdir -p /usr/src/python; \
	tar --extract --directory /usr/src/python --strip-components=1 --file python.tar.xz; \
	rm python.tar.xz; \
	cd /usr/src/python; \
	nproc="$(nproc)"; \
	make -j "$nproc"; \
	make install; \
	find /usr/local -depth \( -type d -a \( -name test -o -name tests \) \) -exec rm -rf '{}' +; \
	ldconfig
USER 1000
CMD ["python3"]
