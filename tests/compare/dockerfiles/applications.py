"""Dockerfiles as projects have them."""

from __future__ import annotations

from ._case import Case, File, Files, Link

PYTHON: Files = {
    "requirements.txt": "click==8.1\n",
    "setup.cfg": "[metadata]\nname = app\n",
    "src/app/__init__.py": "",
    "src/app/main.py": "print('hello')\n",
    "tests/test_app.py": "def test(): pass\n",
    "wheels/click.txt": "click\n",
    "docker/entrypoint.sh": '#!/bin/sh\nexec "$@"\n',
    ".git/HEAD": "ref: refs/heads/main\n",
    ".env": "SECRET=1\n",
    ".dockerignore": ".git\n.env\ntests\n**/__pycache__\n",
}
NODE: Files = {
    "package.json": '{"name": "app", "scripts": {"build": "true"}}\n',
    "package-lock.json": "{}\n",
    "src/index.js": "console.log(1)\n",
    "src/lib/util.js": "module.exports = {}\n",
    "public/index.html": "<html></html>\n",
    "node_modules/junk/index.js": "junk\n",
    ".dockerignore": "node_modules\nnpm-debug.log\nDockerfile*\n",
    **{f"vendor/p{number}/index.js": f"// {number}\n" for number in range(60)},
    "vendor/.bin/p1": Link("../p1/index.js"),
}
C: Files = {
    "main.c": '#include <stdio.h>\n#include "greet.h"\nint main(void) { puts(greeting()); return 0; }\n',
    "greet.c": 'const char *greeting(void) { return "hello"; }\n',
    "greet.h": "const char *greeting(void);\n",
    "Makefile": "hello: main.o greet.o\n\t$(CC) -static -o $@ $^\nmain.o greet.o: greet.h\ninstall: hello\n"
    "\tinstall -D -m 755 hello $(DESTDIR)/usr/bin/hello\n\tln -s hello $(DESTDIR)/usr/bin/hi\n",
}

CASES = {
    "python": Case(
        """
        # syntax=docker/dockerfile:1
        ARG BASE=busybox
        FROM ${BASE} AS builder
        WORKDIR /build
        COPY requirements.txt wheels/ ./
        RUN mkdir -p /venv/bin /venv/lib && while read -r line; do cp "${line%%=*}.txt" /venv/lib/; done < requirements.txt && \\
            ln -s /bin/sh /venv/bin/python && chmod -R go-w /venv
        COPY src ./src
        RUN cp -r src/app /venv/lib/app

        FROM ${BASE}
        ENV PYTHONUNBUFFERED=1 \\
            PYTHONDONTWRITEBYTECODE=1 \\
            PATH=/venv/bin:$PATH
        RUN echo app:x:990: >> /etc/group && echo app:x:990:990::/app: >> /etc/passwd
        COPY --from=builder --chown=app:app /venv /venv
        COPY --chmod=755 docker/entrypoint.sh /usr/local/bin/
        WORKDIR /app
        COPY --chown=app:app . .
        USER app
        EXPOSE 8000
        HEALTHCHECK --interval=30s --timeout=3s CMD ["python", "-c", "exit 0"]
        ENTRYPOINT ["entrypoint.sh"]
        CMD ["python", "-m", "app.main"]
        """,
        PYTHON,
    ),
    "node": Case(
        """
        FROM busybox AS deps
        WORKDIR /app
        COPY package*.json ./
        COPY vendor ./node_modules/
        RUN rm -rf node_modules/p1? && find node_modules | sort > installed

        FROM deps AS build
        COPY . .
        ARG NODE_ENV=production
        ENV NODE_ENV=$NODE_ENV
        RUN mkdir -p dist/assets && cat src/index.js src/lib/*.js > dist/bundle.js && gzip -n -k dist/bundle.js

        FROM busybox
        RUN echo node:x:1000:1000::/home/node:/bin/sh >> /etc/passwd && echo node:x:1000: >> /etc/group
        WORKDIR /home/node/app
        COPY --chown=node --from=build /app/dist ./dist
        COPY --chown=node --from=deps /app/node_modules ./node_modules
        COPY --chown=node public package.json ./
        USER node
        ENV PORT=3000
        EXPOSE $PORT
        VOLUME /home/node/data
        CMD [ "node", "dist/bundle.js" ]
        """,
        NODE,
        build_args={"NODE_ENV": "staging"},
    ),
    "static-program": Case(
        """
        FROM debian AS build
        WORKDIR /src
        COPY . .
        RUN make CFLAGS=-O2 && strip hello && make install DESTDIR=/out && touch -d @1000000000 /out/usr/bin/hello
        FROM scratch
        COPY --from=build /out /
        COPY --from=build /etc/passwd /etc/group /etc/
        USER nobody
        ENTRYPOINT ["/usr/bin/hello"]
        """,
        C,
    ),
    "file-capabilities": Case("""
        FROM debian AS build
        RUN mkdir /out && cp /bin/true /out/ping && setcap cap_net_raw+ep /out/ping && cp -a /out/ping /out/other && \\
            touch -d @1000 /out/* && getcap /out/ping > /out/text
        FROM busybox
        COPY --from=build /out /opt
        COPY --from=build /out/ping /bin/
        RUN mkdir /moved && mv /opt/other /moved/ && cp -a /bin/ping /bin/ping2
    """),
    "debian-users-and-packages": Case(
        """
        FROM debian AS system
        SHELL ["/bin/bash", "-o", "pipefail", "-euc"]
        RUN groupadd -g 800 service && useradd -m -u 801 -g service -s /bin/bash service && usermod -aG staff service
        RUN rm -rf /usr/share/doc /usr/share/man /usr/share/locale /var/cache/apt/* && mkdir -p /usr/share/doc/kept
        COPY hello /tmp/hello
        RUN dpkg-deb --build /tmp/hello /tmp/hello.deb >/dev/null && dpkg -i /tmp/hello.deb && rm -r /tmp/hello*
        RUN install -d -o service -g service -m 2750 /var/lib/service && ln -sf /usr/share/zoneinfo/UTC /etc/localtime
        USER service
        WORKDIR /home/service
        RUN id -Gn > groups; echo "$HOME" > home; hello > greeting
        FROM scratch
        COPY --from=system /etc/passwd /etc/group /etc/localtime /etc/
        COPY --from=system /home /home
        COPY --from=system /usr/bin/hello /usr/bin/
        COPY --from=system /usr/share /usr/share
        COPY --from=system /var /var
        """,
        {
            "hello/DEBIAN/control": "Package: hello-compare\nVersion: 1\nArchitecture: all\n"
            "Maintainer: T <t@example.com>\nDescription: test\n",
            "hello/usr/bin/hello": File("#!/bin/sh\necho hello\n", 0o755),
        },
    ),
    "web-site": Case(
        """
        FROM busybox
        LABEL org.opencontainers.image.title="site" org.opencontainers.image.version=1.0
        RUN mkdir -p /var/log/httpd /run/httpd && ln -sf /dev/stdout /var/log/httpd/access.log && chown -R www:www /var/log/httpd
        COPY --chown=www:www public/ /srv/www/
        ADD assets.css /srv/www/css/
        STOPSIGNAL SIGQUIT
        EXPOSE 80/tcp 443
        HEALTHCHECK --interval=10s --retries=3 CMD wget -q -O /dev/null http://localhost/ || exit 1
        CMD ["httpd", "-f", "-h", "/srv/www"]
        """,
        {**NODE, "assets.css": "body {}\n", ".dockerignore": ""},
    ),
    "tools-from-other-stages": Case("""
        FROM busybox AS tool-a
        RUN mkdir /dist && printf '#!/bin/sh\\necho a\\n' > /dist/a && chmod 755 /dist/a
        FROM busybox AS tool-b
        RUN mkdir /dist && printf '#!/bin/sh\\necho b\\n' > /dist/b && chmod 755 /dist/b
        FROM busybox AS test
        COPY --from=tool-a /dist /usr/local/bin
        COPY --from=tool-b /dist /usr/local/bin
        RUN a > /report && b >> /report
        FROM scratch AS report
        COPY --from=test /report /
        FROM busybox AS final
        COPY --from=report /report /usr/share/report
        COPY --from=tool-a /dist/a /usr/local/bin/
        COPY --from=tool-b /dist/b /usr/local/bin/
    """),
    "squashing-by-copy": Case("""
        FROM busybox AS full
        RUN mkdir /app && dd if=/dev/zero of=/app/big bs=1k count=100 2>/dev/null
        RUN echo u:x:900:900::/app:/bin/sh >> /etc/passwd && chown u /app && chmod 700 /app
        RUN rm /app/big && echo small > /app/small
        FROM scratch
        COPY --from=full / /
        USER u
        WORKDIR /app
        RUN id -u > me
    """),
}
