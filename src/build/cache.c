#include "build/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"

/* A file: this header, the key without a terminator, the cubin. */
typedef struct sg_cache_header {
    char magic[8]; /* with the format's version */
    uint64_t key_size, data_size;
    uint64_t sum; /* hash of the cubin */
} sg_cache_header;

static const char MAGIC[8] = {'s', 'e', 'g', 'u', 'e', 'k', '0', '1'};
static const char SUFFIX[] = ".cubin", TEMPORARY[] = ".new";
enum { FOLDER_MAX = 3500, NAME_SIZE = 4096, FOLDER_MODE = 0700 };
/* The folder's bytes at most, what is left after making room, and the seconds after which a file
 * that was never renamed has no process behind it. */
static const int64_t FULL = INT64_C(256) << 20, ROOM_LEFT = INT64_C(192) << 20, STALE = 3600;

/* ---- names --------------------------------------------------------------------------------- */

static bool folder_name(char *folder) {
    const char *named = getenv("SEGUE_CACHE_DIR"), *cache = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    int length = -1;
    if (named && named[0])
        length = snprintf(folder, FOLDER_MAX, "%s/kernels", named);
    else if (cache && cache[0])
        length = snprintf(folder, FOLDER_MAX, "%s/segue/kernels", cache);
    else if (home && home[0])
        length = snprintf(folder, FOLDER_MAX, "%s/.cache/segue/kernels", home);
    return length > 0 && length < FOLDER_MAX;
}

/* The folder and those above it. */
static bool make_folders(const char *folder) {
    char path[FOLDER_MAX];
    snprintf(path, sizeof path, "%s", folder);
    for (char *at = path + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        mkdir(path, FOLDER_MODE); /* whether it is there shows at the last one */
        *at = '/';
    }
    return mkdir(path, FOLDER_MODE) == 0 || errno == EEXIST;
}

static bool file_name(const char *key, char *path) {
    char folder[FOLDER_MAX];
    if (!folder_name(folder))
        return false;
    uint64_t hash = sg_hash(SG_HASH_START, key, strlen(key));
    snprintf(path, NAME_SIZE, "%s/%016" PRIx64 "%s", folder, hash, SUFFIX);
    return true;
}

/* ---- reading ------------------------------------------------------------------------------- */

static bool read_all(int file, void *data, size_t size) {
    char *at = data;
    while (size > 0) {
        ssize_t got = read(file, at, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

static bool read_file(int file, const char *key, void **data, size_t *size) {
    sg_cache_header header;
    struct stat facts;
    size_t key_size = strlen(key);
    if (fstat(file, &facts) != 0 || !read_all(file, &header, sizeof header) ||
        memcmp(header.magic, MAGIC, sizeof MAGIC) != 0 || header.key_size != key_size ||
        header.data_size == 0 || header.data_size > (uint64_t)FULL ||
        (uint64_t)facts.st_size != sizeof header + key_size + header.data_size)
        return false;
    char *text = malloc(key_size + header.data_size);
    if (!text)
        return false;
    bool ok = read_all(file, text, key_size + header.data_size) &&
              memcmp(text, key, key_size) == 0 &&
              sg_hash(SG_HASH_START, text + key_size, header.data_size) == header.sum;
    if (!ok) {
        free(text);
        return false;
    }
    memmove(text, text + key_size, header.data_size);
    *data = text;
    *size = header.data_size;
    return true;
}

bool sg_cache_find(const char *key, void **data, size_t *size) {
    char path[NAME_SIZE];
    if (!file_name(key, path))
        return false;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    bool found = read_file(file, key, data, size);
    if (found)
        futimens(file, NULL); /* used now; where that is forbidden it only looks older */
    close(file);
    return found;
}

/* ---- writing ------------------------------------------------------------------------------- */

static bool write_all(int file, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t put = write(file, at, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        at += put;
        size -= (size_t)put;
    }
    return true;
}

typedef struct sg_cache_file {
    char name[64];
    int64_t size, used;
} sg_cache_file;

static int by_use(const void *left, const void *right) {
    int64_t a = ((const sg_cache_file *)left)->used, b = ((const sg_cache_file *)right)->used;
    return (a > b) - (a < b);
}

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), end_length = strlen(end);
    return length >= end_length && strcmp(name + length - end_length, end) == 0;
}

/* Lists the folder's cubins (at: its descriptor), and removes what writers left that are gone. */
static sg_cache_file *list_files(DIR *folder, int at, int *count, int64_t *total) {
    sg_cache_file *files = NULL;
    int capacity = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        struct stat facts;
        size_t length = strlen(entry->d_name);
        bool temporary = ends_with(entry->d_name, TEMPORARY);
        if ((!temporary && !ends_with(entry->d_name, SUFFIX)) || length >= sizeof files->name ||
            fstatat(at, entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (temporary) {
            if (facts.st_mtim.tv_sec + STALE < time(NULL))
                unlinkat(at, entry->d_name, 0);
            continue;
        }
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            sg_cache_file *grown = realloc(files, sizeof *files * (size_t)capacity);
            if (!grown)
                break;
            files = grown;
        }
        sg_cache_file *file = &files[(*count)++];
        memcpy(file->name, entry->d_name, length + 1);
        file->size = facts.st_size;
        file->used = facts.st_mtim.tv_sec;
        *total += facts.st_size;
    }
    return files;
}

/* Another process may be at the same; a file that is gone already is as good. */
static void make_room(const char *path) {
    DIR *folder = opendir(path);
    int count = 0;
    int64_t total = 0;
    int at = folder ? dirfd(folder) : -1;
    sg_cache_file *files = at >= 0 ? list_files(folder, at, &count, &total) : NULL;
    if (total > FULL) {
        qsort(files, (size_t)count, sizeof *files, by_use);
        for (int i = 0; i < count && total > ROOM_LEFT; i++) {
            unlinkat(at, files[i].name, 0);
            total -= files[i].size;
        }
    }
    free(files);
    if (folder)
        closedir(folder);
}

void sg_cache_keep(const char *key, const void *data, size_t size) {
    char folder[FOLDER_MAX], path[NAME_SIZE], temporary[NAME_SIZE];
    if (!folder_name(folder) || !make_folders(folder) || !file_name(key, path))
        return;
    snprintf(temporary, sizeof temporary, "%s/XXXXXX%s", folder, TEMPORARY);
    int file = mkostemps(temporary, (int)strlen(TEMPORARY), O_CLOEXEC);
    if (file < 0)
        return;
    sg_cache_header header = {
        .key_size = strlen(key), .data_size = size, .sum = sg_hash(SG_HASH_START, data, size)};
    memcpy(header.magic, MAGIC, sizeof MAGIC);
    bool ok = write_all(file, &header, sizeof header) && write_all(file, key, header.key_size) &&
              write_all(file, data, size);
    ok = close(file) == 0 && ok;
    if (!ok || rename(temporary, path) != 0)
        unlink(temporary);
    else
        make_room(folder);
}
