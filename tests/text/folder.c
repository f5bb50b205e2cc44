#include "folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const folder_names[FOLDER_FILES] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                                "special_tokens_map.json", "tokenizer.json"};
char folder_path[64];

static void require(int good, const char *what) {
    if (good)
        return;
    perror(what);
    exit(1);
}

void folder_create(void) {
    strcpy(folder_path, "tokenizer-XXXXXX");
    require(mkdtemp(folder_path) != NULL, folder_path);
}

void folder_remove(void) {
    folder_clear();
    rmdir(folder_path);
}

void folder_put_bytes(const char *name, const void *data, size_t bytes) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder_path, name);
    FILE *f = fopen(path, "wb");
    require(f != NULL, path);
    require(fwrite(data, 1, bytes, f) == bytes, path);
    require(fclose(f) == 0, path);
}

void folder_put(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder_path, name);
    if (text == NULL)
        unlink(path);
    else
        folder_put_bytes(name, text, strlen(text));
}

void folder_clear(void) {
    for (size_t i = 0; i < FOLDER_FILES; i++)
        folder_put(folder_names[i], NULL);
}

char *folder_original(const char *name, size_t *bytes) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", SHAPES_TOKENIZER, name);
    FILE *f = fopen(path, "rb");
    require(f != NULL, path);
    enum { LIMIT = 1 << 20 };
    char *data = malloc(LIMIT);
    require(data != NULL, path);
    *bytes = fread(data, 1, LIMIT - 1, f);
    data[*bytes] = '\0';
    fclose(f);
    return data;
}

void folder_reset(void) {
    folder_clear();
    for (size_t i = 0; i < 4; i++) {
        size_t bytes;
        char *data = folder_original(folder_names[i], &bytes);
        folder_put_bytes(folder_names[i], data, bytes);
        free(data);
    }
}
