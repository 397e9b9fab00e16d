"""Triggers of a base image."""

from __future__ import annotations

from ._case import Case

CASES = {
    "image": Case(
        """
        FROM localhost/before
        RUN cat trigger > own; echo "$T" >> own
        """,
        before="""
        FROM busybox
        ONBUILD ENV T=trigger
        ONBUILD WORKDIR /app
        ONBUILD COPY a d/*.txt ./
        ONBUILD RUN echo "fired $T" > trigger; chmod 777 .
        ONBUILD USER www
        ONBUILD LABEL t=$T
        ONBUILD CMD ["t"]
        """,
    ),
    "not-for-grandchildren": Case(
        """
        FROM localhost/before AS child
        RUN echo child > /child
        FROM child
        RUN cat /count > /again
        """,
        before="""
        FROM busybox
        ONBUILD RUN echo fired >> /count
        """,
    ),
    "argument": Case(
        """
        FROM localhost/before
        RUN echo "[$V]" > /own
        """,
        before="""
        FROM busybox
        ONBUILD ARG V=default
        ONBUILD RUN echo $V > /v
        """,
        build_args={"V": "given"},
    ),
    "together-with-new-triggers": Case(
        """
        FROM localhost/before
        ONBUILD RUN echo new
        ENTRYPOINT ["/e"]
        """,
        before="""
        FROM busybox
        ONBUILD RUN echo old > /old
        ONBUILD EXPOSE 80
        """,
    ),
    "from-a-stage-of-the-new-file": Case(
        """
        FROM busybox AS build
        RUN echo built > /built
        FROM localhost/before
        """,
        before="""
        FROM busybox
        ONBUILD COPY --from=build /built /fetched
        """,
        buildah="""
        FROM busybox AS build
        RUN echo built > /built
        FROM busybox
        COPY --from=build /built /fetched
        """,
    ),
    "stage": Case("""
        FROM busybox AS parent
        ONBUILD RUN echo fired > /fired
        FROM parent
        RUN echo own > /own
    """),
}
