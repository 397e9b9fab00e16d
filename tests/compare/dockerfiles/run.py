"""RUN: what commands do to the tree, and the surroundings in which they run."""

from __future__ import annotations

from ._case import Case

CASES = {
    "create": Case("""
        FROM busybox
        RUN echo one > /one
        RUN mkdir -p /a/b/c && echo two > /a/b/c/two && chmod 640 /a/b/c/two && chmod 1777 /a
        RUN true
    """),
    "owners": Case("""
        FROM busybox
        RUN mkdir /o && touch /o/a /o/b /o/c && chown 33:34 /o/a && chown 65534:65534 /o/b && chown -R 1000:50 /srv && chown 60000 /o/c
    """),
    "permission-bits": Case("""
        FROM busybox
        RUN mkdir /p && cd /p && for m in 0 1 10 111 222 444 640 755 777 1777 2755 4755 6777 7000; do touch $m; chmod $m $m; done
        RUN chmod 700 /etc /srv && chmod 000 /srv/data/one
    """),
    "set-id-bits": Case("""
        FROM busybox
        RUN touch /su /sg && chown 33:34 /su && chmod 4755 /su && chmod 2711 /sg && chmod 3777 /var/log
        RUN touch /var/log/inherits && mkdir /var/log/inherits-too
        RUN chown 5 /su
    """),
    "links": Case("""
        FROM busybox
        RUN ln -s ../no/where /dangling && ln -s /etc /abs && ln /etc/motd /etc/motd2 && cp -a /srv/data/one /srv/copied
        RUN ln -sfn /srv /abs && ln -s self /self && chown -h 3:4 /dangling
    """),
    "deleted-files": Case("""
        FROM busybox
        RUN rm /etc/motd /srv/data/two && rmdir /tmp
        RUN rm -r /var
    """),
    "deleted-base-directories": Case("""
        FROM busybox
        RUN rm -r /srv /usr /root /etc/group
        RUN mkdir /srv && touch /srv/new
    """),
    "replaced-directory": Case("""
        FROM busybox
        RUN rm -r /srv/data && mkdir /srv/data && echo new > /srv/data/new && chmod 711 /srv/data
        RUN ls -A /srv/data > /seen
    """),
    "directory-becomes-a-file": Case("""
        FROM busybox
        RUN rm -r /srv/data && echo file > /srv/data
        RUN rm /srv/data && ln -s /etc /srv/data
    """),
    "file-becomes-a-directory": Case("""
        FROM busybox
        RUN rm /etc/motd && mkdir /etc/motd && touch /etc/motd/x
        RUN rm -r /etc/motd && mkfifo /etc/motd
    """),
    "link-becomes-a-directory": Case("""
        FROM busybox
        RUN ln -s /etc /l && ln -s /srv/data/one /m
        RUN rm /l /m && mkdir /l && echo x > /l/passwd && echo m > /m
    """),
    "deleted-and-made-again": Case("""
        FROM busybox
        RUN rm /etc/motd
        RUN echo again > /etc/motd
        RUN rm -r /srv && mkdir -p /srv/data && touch /srv/data/one
        RUN rm -r /srv
        RUN mkdir -p /srv/data/two
    """),
    "opaque-over-several-steps": Case("""
        FROM busybox
        RUN mkdir -p /o/sub && touch /o/1 /o/sub/2
        RUN rm -r /o && mkdir /o && touch /o/3
        RUN touch /o/1
        RUN rm -r /o && mkdir -p /o/sub
        RUN touch /o/sub/4 && mv /o /moved
    """),
    "moved-directories": Case("""
        FROM busybox
        RUN mv /srv/data /srv/moved
        RUN mv /srv/moved /opt && mv /etc/motd /opt/one
        RUN mkdir /x && touch -d @7777 /x/f && mv /x /y
    """),
    "swapped-directories": Case("""
        FROM busybox
        RUN mkdir /one /two && echo 1 > /one/f && echo 2 > /two/f && chmod 700 /one
        RUN mv /one /three && mv /two /one && mv /three /two
    """),
    "hard-links-across-steps": Case("""
        FROM busybox
        RUN ln /srv/data/one /srv/data/third
        RUN echo changed > /srv/data/hard
        RUN rm /srv/data/hard
    """),
    "hard-links-of-the-base-by-mode": Case("""
        FROM busybox
        RUN chmod 600 /srv/data/one
    """),
    "unchanged-hard-link": Case("""
        FROM busybox
        RUN chmod 644 /srv/data/one
    """),
    "hard-links-in-other-directories": Case("""
        FROM busybox
        RUN mkdir /h && echo x > /h/a && ln /h/a /h/b && ln /h/a /etc/c && ln /h/a /srv/data/d
        RUN rm /h/a && ln /etc/c /h/e
        RUN mv /h/b /h/z
    """),
    "fifo-and-odd-names": Case(r"""
        FROM busybox
        RUN mkfifo -m 622 /pipe && touch '/with space' '/back\slash' /-dash '/ünï' && mkdir /.hidden && touch "/$(printf 'new\nline')"
        RUN touch /.wh /wh.x /.whatever && rm '/with space'
    """),
    "names-that-are-not-utf-8": Case(r"""
        FROM busybox
        RUN touch "$(printf '/latin1-\344')" && ln -s "$(printf 'to-\377')" /link
        RUN mkdir "$(printf '/dir-\200')" && echo x > "$(printf '/dir-\200/f')"
    """),
    "many-files": Case("""
        FROM busybox
        RUN mkdir /many && cd /many && seq 300 | xargs touch && ls | head -150 | xargs rm
        RUN cd /many && rm -f 2* && seq 1000 1100 | xargs mkdir
    """),
    "umask": Case("""
        FROM busybox
        RUN umask > /umask; touch /file; mkdir /dir
        RUN umask 077 && mkdir /private && touch /private/file
        RUN umask 0; touch /open; mkdir /opendir
    """),
    "times": Case("""
        FROM busybox
        RUN touch -d @86400 /old && mkdir /d && touch /d/f && touch -d @90000 /d && ln -s x /l && touch -h -d @5 /l
        RUN touch -d @2000000000 /future; touch -d @0 /epoch; touch -d "1969-12-31 12:00:00" /before
        RUN touch -d @99 /etc/motd && echo more >> /srv/data/two && touch -d @1000000000 /srv/data/two
    """),
    "times-of-parents": Case("""
        FROM busybox
        RUN mkdir -p /p/q && touch /p/q/f && touch -d @1000 /p /p/q /srv
        RUN chmod 600 /p/q/f
        RUN rm /p/q/f
    """),
    "changed-and-changed-back": Case("""
        FROM busybox
        RUN chmod 600 /etc/motd && chmod 644 /etc/motd && touch /tmp/x && rm /tmp/x
        RUN cp -a /etc/motd /m && rm /etc/motd && mv /m /etc/motd
    """),
    "appended-and-truncated": Case("""
        FROM busybox
        RUN echo more >> /etc/motd && : > /srv/data/two && sed -i s/1/one/ /srv/data/one
    """),
    "sparse": Case("""
        FROM busybox
        RUN truncate -s 5M /hole && dd if=/dev/zero of=/middle bs=4k count=1 seek=500 2>/dev/null && echo end >> /middle
    """),
    "socket": Case("""
        FROM busybox
        RUN mkdir /s && (timeout 1 nc -l -p 0 local:/s/socket & true); touch /s/file
    """),
    "temporary-directories": Case("""
        FROM busybox
        RUN echo kept > /tmp/kept && mkdir -p /var/tmp /var/run && echo x > /var/run/x && ls -ld /tmp | cut -c1-10 > /seen
        RUN cat /tmp/kept > /still-there
    """),
    "kernel-file-systems": Case("""
        FROM busybox
        RUN test -w /dev/null && test -d /dev/shm && test -e /proc/self && test -d /sys/kernel && echo ok > /ok
    """),
    "environment": Case("""
        FROM busybox
        ENV X=1
        RUN env | grep -v -e HOSTNAME -e SHLVL -e PWD -e container | sort > /env; pwd > /pwd
        WORKDIR /srv
        RUN pwd > /pwd2; echo "$PWD $HOME" >> /pwd2
    """),
    "standard-input-is-empty": Case("""
        FROM busybox
        RUN cat > /input; echo "$?" > /status; tty > /tty 2>&1 || true
    """),
    "exec-form": Case(r"""
        FROM busybox
        RUN ["touch", "/a b", "/$HOME"]
        RUN ["/bin/sh", "-c", "echo \"$0 $1\" > /out", "zero", "one two"]
        WORKDIR /srv
        RUN ["busybox", "touch", "relative"]
    """),
    "shell-operators": Case("""
        FROM busybox
        RUN false || echo fine > /fine; (cd /srv && echo sub > sub) & wait; { echo a; echo b; } | tac > /tac 2>&1
    """),
    "background-processes-end": Case("""
        FROM busybox
        RUN (sleep 10; touch /never) & echo started > /started
        RUN ls / | grep -c never > /count || true
    """),
    "capabilities-of-a-step": Case("""
        FROM busybox
        RUN mknod /tmp/null c 1 3 2>/dev/null; chown 1:1 /srv && chmod 2755 /srv; cd /tmp && rm -f null
        RUN touch /immutable && chown 3:4 /immutable && chmod 400 /immutable && echo root can > /immutable
    """),
    "file-descriptors": Case("""
        FROM busybox
        RUN umask; ls /proc/self/fd | wc -l; ulimit -c > /core; cat /proc/sys/kernel/hostname > /dev/null
    """),
    "base-links-followed": Case(
        """
        FROM localhost/before
        RUN echo new >> /lib/liba && rm /sbin/x && touch /lib/y
        COPY a /sbin/
        COPY d /lib/d
        """,
        before="""
        FROM busybox
        RUN mkdir -p /usr/lib /usr/sbin && ln -s usr/lib /lib && ln -s usr/sbin /sbin && echo a > /lib/liba && touch /sbin/x
        """,
    ),
    "everything-deleted": Case("""
        FROM busybox
        RUN rm -rf /srv /usr /root /tmp /var /etc/passwd /etc/group
    """),
    "extracted-archive": Case("""
        FROM busybox
        RUN mkdir /t && cd /t && mkdir -p s/d && echo 1 > s/f && ln s/f s/h && ln -s f s/l && chown -R 4:5 s && chmod 4750 s/f && \\
            touch -d @1234 s/f s/d && tar -cf s.tar s && mkdir x && tar -xf s.tar -C x && rm s.tar
    """),
    "copied-trees": Case("""
        FROM busybox
        RUN cp -a /srv /copy && cp -r /etc/motd /copy2 && cp -al /srv /hard
    """),
    "nothing-changed": Case("""
        FROM busybox
        RUN true
        RUN cat /etc/motd > /dev/null
        RUN ["true"]
    """),
    "sticky-and-shared-directories": Case("""
        FROM busybox
        RUN mkdir -m 1777 /shared && su -s /bin/sh -c 'touch /shared/mine' www 2>/dev/null || touch /shared/mine
        RUN mkdir -p /a/b && chmod 2775 /a && mkdir /a/c && touch /a/f && chown :50 /a/c
    """),
    "rename-over": Case("""
        FROM busybox
        RUN echo new > /new && mv /new /etc/motd && mkdir /e && mv /e /srv/empty && ln -s x /l && mv /l /srv/data/two
        RUN mkdir /f && touch /f/f && rm -r /srv/empty && mv /f /srv/empty
    """),
    "many-links-to-one-file": Case("""
        FROM busybox
        RUN mkdir /l && echo x > /l/0 && for i in $(seq 50); do ln /l/0 /l/$i; done
        RUN rm /l/0 /l/1? && chmod 600 /l/20
    """),
}
