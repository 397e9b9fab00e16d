/* A library that an image plants where a builder might load it: leaves a file in whatever root directory it is loaded. */
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void)
{
    close(open("/evil-was-here", O_WRONLY | O_CREAT, 0644));
}
