/* Makes a terminal as programs do that start others in one; ends with the number of the line that failed, or 0. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INSIST(what) do { if (!(what)) { perror(#what); return __LINE__; } } while (0)

int main(void)
{
    char text[8] = "", name[64], other[64];
    struct stat by_name, by_descriptor;
    int number, one = posix_openpt(O_RDWR | O_NOCTTY);
    INSIST(one >= 0);
    INSIST(grantpt(one) == 0);
    INSIST(unlockpt(one) == 0);
    INSIST(ptsname_r(one, name, sizeof name) == 0);
    int two = open(name, O_RDWR | O_NOCTTY);
    INSIST(two >= 0);
    INSIST(isatty(two));
    INSIST(write(two, "hi", 2) == 2);
    INSIST(read(one, text, 2) == 2 && strcmp(text, "hi") == 0);
    INSIST(stat(name, &by_name) == 0);
    INSIST(fstat(two, &by_descriptor) == 0);
    INSIST(by_name.st_rdev == by_descriptor.st_rdev);
    INSIST(ttyname(two) && strcmp(ttyname(two), name) == 0);
    INSIST(chown(name, getuid(), getgid()) == 0);
    INSIST(chmod(name, 0600) == 0);
    for (number = 0; number < 64; number++) {
        snprintf(other, sizeof other, "/dev/pts/%d", number);
        INSIST(strcmp(other, name) == 0 || access(other, F_OK) == -1);
    }
    return 0;
}
