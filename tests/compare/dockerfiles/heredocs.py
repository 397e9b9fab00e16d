"""Here-documents. Debian's buildah has none: it gets the same in other words."""

from __future__ import annotations

from ._case import Case

CASES = {
    "run-script": Case(
        """
        FROM busybox
        RUN <<EOF
        echo one > /out
        false
        echo "two $HOME" >> /out
        # a comment of the shell
        EOF
        """,
        buildah="""
        FROM busybox
        RUN echo one > /out; false; echo "two $HOME" >> /out
        """,
    ),
    "run-program": Case(
        """
        FROM busybox
        RUN <<EOF
        #!/bin/sh -e
        umask 077
        echo program > /out
        EOF
        """,
        buildah="""
        FROM busybox
        RUN umask 077; echo program > /out
        """,
    ),
    "run-with-words": Case(
        """
        FROM busybox
        ENV V=value
        RUN cat <<EOF > /expanded && cat <<"END" > /literal
        $V
        EOF
        $V
        END
        """,
        buildah="""
        FROM busybox
        ENV V=value
        RUN echo value > /expanded && echo '$V' > /literal
        """,
    ),
    "copy-expanded-and-literal": Case(
        r"""
        FROM busybox
        ENV V=vv
        COPY <<EOF /expanded
        $V ${V:-x} \$V "q" '$V' \\
        EOF
        COPY <<"EOF" /literal
        $V \$V
        EOF
        RUN touch -d @1 /expanded /literal
        """,
        files={"expanded": "vv vv $V \"q\" 'vv' \\\n", "literal": "$V \\$V\n"},
        buildah="""
        FROM busybox
        ENV V=vv
        COPY expanded /expanded
        COPY literal /literal
        RUN touch -d @1 /expanded /literal
        """,
    ),
    "copy-several-with-tabs": Case(
        "FROM busybox\nCOPY --chmod=600 --chown=3:4 <<-one <<two a /dir/\n\t\ttabs\n\tone\n  blanks\ntwo\nRUN touch -d @1 /dir/*\n",
        files={"one": "tabs\n", "two": "  blanks\n", "a": "a\n"},
        buildah="FROM busybox\nCOPY --chmod=600 --chown=3:4 one two a /dir/\nRUN touch -d @1 /dir/*\n",
    ),
    "not-a-heredoc": Case("""
        FROM busybox
        RUN echo "<<EOF" > /out; echo $((1<<3)) >> /out
        RUN ["/bin/echo", "<<EOF"]
        ENV X="<<EOF"
    """),
}
