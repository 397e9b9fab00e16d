"""The text of the file: lines, comments, continuations, directives, quotes of the JSON form."""

from __future__ import annotations

from ._case import Case

CASES = {
    "comments-in-a-continuation": Case("""
        # first
        FROM busybox
          # indented comment
        RUN echo hello \\
        # between
            # and indented
            world > /out && \\
            echo again >> /out
        # last
    """),
    "empty-lines-in-a-continuation": Case("""
        FROM busybox
        RUN echo one \\

            two \\

          > /out
        ENV A=1 \\

            B=2
    """),
    "blanks-after-the-escape": Case('FROM busybox\nRUN echo a \\  \t\n  b > /out\nENV V="a\\\n    b"\n'),
    "doubled-escape": Case("FROM busybox\nRUN echo 'c \\\\' > /out\n"),
    "escape-directive": Case(r"""
        # escape=`
        FROM busybox
        ENV DIR=C:\temp\new X=a`$b
        RUN echo one `
            two \\ > /out
        COPY a `
             b /copied/
        LABEL path=c:\dir
    """),
    "escape-after-a-comment-is-none": Case("""
        # a comment
        # escape=`
        FROM busybox
        RUN echo `echo inner` > /out
    """),
    "syntax-directive": Case("""
        # syntax=docker/dockerfile:1
        # escape=\\
        FROM busybox
        RUN echo a \\
          b > /out
    """),
    "lower-case-and-tabs": Case(
        'from busybox as first\nrun\techo tab > /out\nenv A=1\nCopy\ta\t/b\nfrom first\nworkdir /w\nrun true\ncmd ["x"]\n'
    ),
    "carriage-returns": Case(
        "FROM busybox\r\nENV A=1 \\\r\n    B=2\r\nRUN echo $A \\\r\n  $B > /out\r\nCOPY a /crlf\r\n"
    ),
    "byte-order-mark": Case("\ufeffFROM busybox\nENV A=ü\n"),
    "no-newline-at-the-end": Case("FROM busybox\nRUN echo a > /out"),
    "escape-at-the-end": Case("FROM busybox\nRUN echo a > /out \\\n"),
    "json-over-lines": Case(r"""
        FROM busybox
        RUN [ "/bin/sh", \
              "-c", \
              "echo a > /out" ]
        CMD ["a", \
        # comment
             "b"]
    """),
    "test-command-is-no-json": Case("""
        FROM busybox
        RUN [ -f /etc/passwd ] && echo yes > /out
    """),
    "long-lines": Case("FROM busybox\nRUN echo " + "word " * 4000 + "> /long\nENV L=" + "x" * 20000 + "\n"),
    "quotes-reach-the-shell": Case(r"""
        FROM busybox
        RUN echo "double  blank" 'single  blank' plain  blank "a\"b" > /out; echo "#no comment" >> /out # shell comment
    """),
    "blanks-in-single-values": Case("""
        FROM busybox
        WORKDIR /a b
        RUN pwd > /out
    """),
    "several-commands-in-a-step": Case("""
        FROM busybox
        RUN set -e; \\
            for i in 1 2 3; do \\
                echo $i >> /out; \\
            done; \\
            if [ -e /out ]; then \\
                mv /out /done; \\
            fi
    """),
}
