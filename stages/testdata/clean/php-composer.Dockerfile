FROM composer:2 AS vendor
WORKDIR /app
COPY composer.json composer.lock ./
RUN composer install --no-dev --no-autoloader --no-scripts --prefer-dist
COPY . .
RUN composer dump-autoload --optimize

FROM php:8.4-fpm-alpine
RUN set -eux; \
    apk add --no-cache --virtual .build-deps $PHPIZE_DEPS icu-dev; \
    docker-php-ext-install intl opcache; \
    apk del .build-deps
WORKDIR /var/www
COPY --from=vendor --chown=www-data:www-data /app ./
USER www-data
CMD ["php-fpm"]
