/* A scratch folder of tokenizer files, made from the small tokenizer that ships. */
#ifndef VD_TESTS_TEXT_FOLDER_H
#define VD_TESTS_TEXT_FOLDER_H

#include <stddef.h>

#define SHAPES_TOKENIZER VD_SOURCE_DIR "/models/shapes/tokenizer"
enum { FOLDER_FILES = 5 };
extern const char *const folder_names[FOLDER_FILES]; /* all that a tokenizer folder may hold */

/* Creates an empty folder below the working folder; its path is in `folder_path`. Exits the test on
 * failure, as the others do. */
extern char folder_path[64];
void folder_create(void);
void folder_remove(void);

/* Takes away all files, then copies the four of the small tokenizer. */
void folder_reset(void);
void folder_clear(void);

/* Text NULL: takes the file away. */
void folder_put(const char *name, const char *text);
void folder_put_bytes(const char *name, const void *data, size_t bytes);

/* A terminated copy of a file of the small tokenizer; free() it. */
char *folder_original(const char *name, size_t *bytes);

#endif
