/* Make the directory that is named hand down an access control list (acl(5)) whose entry for the owner allows nothing. */
#include <stdint.h>
#include <string.h>
#include <sys/xattr.h>

struct entry { uint16_t tag, permissions; uint32_t id; };

int main(int count, char **words)
{
    const uint32_t version = 2, nobody = 0xffffffff;
    const struct entry entries[] = {{1, 0, nobody}, {4, 4, nobody}, {32, 4, nobody}};
    unsigned char list[sizeof version + sizeof entries];
    memcpy(list, &version, sizeof version);
    memcpy(list + sizeof version, entries, sizeof entries);
    return count != 2 || setxattr(words[1], "system.posix_acl_default", list, sizeof list, 0) != 0;
}
