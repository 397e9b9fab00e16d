/* What 32-bit x86 programs without a C library share: how they call the kernel, and a line "NAME 0", "NAME -ERRNO" or "NAME VALUE". */
typedef unsigned int word;

static int call(word number, word first, word second, word third, word fourth)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third), "S"(fourth) : "memory");
    return result;
}

enum { EXIT = 1, WRITE = 4 };

static void say(const char *name, int value)
{
    char line[80];
    int size = 0, digits = 0;
    char reversed[12];
    word rest = value < 0 ? -value : value;
    while (name[size]) {
        line[size] = name[size];
        size++;
    }
    line[size++] = ' ';
    if (value < 0)
        line[size++] = '-';
    do
        reversed[digits++] = '0' + rest % 10;
    while (rest /= 10);
    while (digits)
        line[size++] = reversed[--digits];
    line[size++] = '\n';
    call(WRITE, 1, (word)line, size, 0);
}
