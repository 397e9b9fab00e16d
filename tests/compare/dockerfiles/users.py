"""USER and what depends on the user: ids of steps, groups, homes, owners of what is made."""

from __future__ import annotations

from ._case import Case

CASES = {
    "names-and-numbers": Case("""
        FROM busybox
        RUN mkdir -m 777 /u
        USER www
        RUN id -u > /u/www; id -g >> /u/www; touch /u/mine
        USER 55:66
        RUN id -u > /u/ids; id -g >> /u/ids; touch /u/theirs
        USER www:staff
        RUN id -u > /u/both; id -g >> /u/both
        USER root
        RUN id > /u/root
    """),
    "number-with-an-entry": Case("""
        FROM busybox
        RUN mkdir -m 777 /u
        USER 33
        RUN id -u > /u/33; id -g >> /u/33; touch /u/mine
    """),
    "number-without-an-entry": Case("""
        FROM busybox
        RUN mkdir -m 777 /u
        USER 1234
        RUN id -u > /u/1234; id -g >> /u/1234; touch /u/mine
    """),
    "supplementary-groups": Case("""
        FROM busybox
        RUN mkdir -m 777 /u
        USER www
        RUN id -G > /u/groups
        USER www:www
        RUN id -G > /u/groups-of-both
    """),
    "home": Case("""
        FROM busybox
        RUN mkdir -m 777 /u && echo $HOME > /u/root
        USER www
        RUN echo $HOME > /u/www
        ENV HOME=/elsewhere
        RUN echo $HOME > /u/set
    """),
    "home-of-an-unknown-user": Case("""
        FROM busybox
        RUN mkdir -m 777 /u
        USER 1234:5678
        RUN echo $HOME > /u/home
    """),
    "created-in-the-build": Case("""
        FROM busybox
        RUN echo app:x:700: >> /etc/group && echo app:x:701:700::/home/app:/bin/sh >> /etc/passwd
        RUN mkdir -p /home/app && chown app:app /home/app
        COPY --chown=app:app d /home/app/d
        USER app
        WORKDIR /home/app
        RUN echo mine > file && mkdir dir && id > id
        COPY a copied
    """),
    "workdir-of-a-user": Case("""
        FROM busybox
        RUN mkdir -m 777 /open
        USER www
        WORKDIR /open/new
        RUN touch here
    """),
    "user-in-a-read-only-place": Case("""
        FROM busybox
        USER www
        RUN touch /not-allowed 2>/dev/null || touch /tmp/instead
        RUN rm /etc/motd 2>/dev/null || echo $? > /tmp/status
    """),
    "back-to-root": Case("""
        FROM busybox
        USER www
        RUN touch /tmp/one
        USER 0
        RUN touch /tmp/two && chown 3:4 /tmp/one
    """),
    "passwd-changed-in-between": Case("""
        FROM busybox
        RUN mkdir -m 777 /u
        USER www
        RUN id -u > /u/before
        USER root
        RUN sed -i s/:33:34:/:35:36:/ /etc/passwd
        USER www
        RUN id -u > /u/after; touch /u/mine
    """),
}
