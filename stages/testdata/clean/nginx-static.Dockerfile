FROM nginxinc/nginx-unprivileged:1.29-alpine
COPY --chmod=644 nginx.conf /etc/nginx/conf.d/default.conf
COPY --chown=101:101 site/ /usr/share/nginx/html/
USER 101
