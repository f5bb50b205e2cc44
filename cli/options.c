#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "core/text.h"

enum { MAX_PROMPT_BYTES = 1 << 20 };

/* A list of texts that live as long as the command. */
typedef struct owned_text {
    struct owned_text *next;
    char *text;
} owned_text;

static const cli_option *find(const cli_command *c, const char *name, size_t length) {
    for (size_t i = 0; i < c->option_count; i++)
        if (strlen(c->options[i].name) == length && memcmp(c->options[i].name, name, length) == 0)
            return &c->options[i];
    return NULL;
}

static vd_status unknown_option(const cli_command *c, const char *name) {
    const char *names[64] = {0};
    for (size_t i = 0; i < c->option_count && i < 63; i++)
        names[i] = c->options[i].name;
    const char *nearest = vd_nearest(name, names);
    if (nearest)
        return vd_fail(VD_ERR_USAGE, "%s: unknown option --%s; did you mean --%s?", c->name, name,
                       nearest);
    return vd_fail(VD_ERR_USAGE, "%s: unknown option --%s; see vidilate %s --help", c->name, name,
                   c->name);
}

static vd_status read_prompt(cli_command *c, const char *path, const char **out) {
    vd_status st = VD_OK;
    size_t bytes = 0;
    owned_text *node = calloc(1, sizeof *node);
    if (!node)
        return vd_fail(VD_ERR_MEMORY, "no memory for a prompt");
    st = vd_read_file(path, MAX_PROMPT_BYTES, &node->text, &bytes);
    if (st == VD_OK && strlen(node->text) != bytes)
        st = vd_fail(VD_ERR_USAGE, "%s: the prompt holds a NUL byte", path);
    if (st != VD_OK) {
        free(node->text);
        free(node);
        return st;
    }
    while (bytes > 0 && (node->text[bytes - 1] == '\n' || node->text[bytes - 1] == '\r'))
        node->text[--bytes] = '\0';
    node->next = c->owned;
    c->owned = node;
    *out = node->text;
    return VD_OK;
}

bool cli_take_seed(const char **text, uint64_t *out) {
    char *end = NULL;
    if (!isdigit((unsigned char)**text))
        return false;
    errno = 0;
    *out = strtoull(*text, &end, 10);
    *text = end;
    return errno == 0;
}

static vd_status set_choice(const cli_command *c, const cli_option *o, const char *value) {
    char list[256] = "";
    for (const char *const *choice = o->choices; *choice; choice++) {
        if (strcmp(value, *choice) == 0) {
            *(const char **)o->target = *choice;
            return VD_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", *choice);
    }
    return vd_fail(VD_ERR_USAGE, "%s: --%s \"%s\": must be one of %s", c->name, o->name, value,
                   list);
}

static vd_status set_option(cli_command *c, const cli_option *o, const char *value) {
    vd_status st = VD_OK;
    const char *end = value;
    uint64_t seed = 0;
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)o->target = true;
        break;
    case CLI_TEXT:
        *(const char **)o->target = value;
        break;
    case CLI_PROMPT:
        if (value[0] == '@')
            st = read_prompt(c, value + 1, o->target);
        else
            *(const char **)o->target = value;
        break;
    case CLI_CHOICE:
        st = set_choice(c, o, value);
        break;
    case CLI_INT:
        if (!vd_parse_int(value, o->target))
            st = vd_fail(VD_ERR_USAGE, "%s: --%s \"%s\" is not a whole number", c->name, o->name,
                         value);
        break;
    case CLI_SEED:
        if (cli_take_seed(&end, &seed) && *end == '\0')
            *(uint64_t *)o->target = seed;
        else
            st = vd_fail(VD_ERR_USAGE, "%s: --%s \"%s\": must be a whole number from 0 to 2^64 - 1",
                         c->name, o->name, value);
        break;
    case CLI_DOUBLE:
        if (!vd_parse_double(value, o->target))
            st = vd_fail(VD_ERR_USAGE, "%s: --%s \"%s\" is not a number", c->name, o->name, value);
        break;
    }
    if (st == VD_OK && o->given)
        *o->given = true;
    return st;
}

vd_status cli_set(cli_command *c, const char *name, const char *value) {
    const cli_option *o = find(c, name, strlen(name));
    return o ? set_option(c, o, value) : unknown_option(c, name);
}

vd_status cli_set_recorded(cli_command *c, const char *name, const char *value) {
    const cli_option *o = find(c, name, strlen(name));
    if (!o || o->kind != CLI_PROMPT)
        return cli_set(c, name, value);
    *(const char **)o->target = value;
    if (o->given)
        *o->given = true;
    return VD_OK;
}

static void print_help(const cli_command *c) {
    printf("Usage: vidilate %s %s\n\n%s\n\nOptions:\n", c->name, c->usage, c->summary);
    for (size_t i = 0; i < c->option_count; i++) {
        const cli_option *o = &c->options[i];
        char left[80], letter[8] = "";
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-30s %s\n", left, o->help);
    }
    printf("  %-30s %s\n", "--help", "this text");
}

/* One argument that begins with a dash; takes the next one for its value if it must. */
static vd_status parse_dashed(cli_command *c, int argc, char **argv, int *i) {
    const char *arg = argv[*i];
    const cli_option *o = NULL;
    const char *value = NULL;
    if (arg[1] == '-') {
        const char *name = arg + 2, *equals = strchr(name, '=');
        size_t length = equals ? (size_t)(equals - name) : strlen(name);
        o = find(c, name, length);
        if (!o) {
            char shown[64];
            snprintf(shown, sizeof shown, "%.*s", (int)(length < 60 ? length : 60), name);
            return unknown_option(c, shown);
        }
        value = equals ? equals + 1 : NULL;
    } else {
        for (size_t k = 0; k < c->option_count; k++)
            if (arg[1] && c->options[k].letter == arg[1])
                o = &c->options[k];
        if (!o || (arg[2] && o->kind == CLI_FLAG))
            return vd_fail(VD_ERR_USAGE, "%s: unknown option %s; see vidilate %s --help", c->name,
                           arg, c->name);
        value = arg[2] ? arg + 2 : NULL;
    }
    if (o->kind == CLI_FLAG) {
        if (value)
            return vd_fail(VD_ERR_USAGE, "%s: --%s takes no value", c->name, o->name);
        return set_option(c, o, "");
    }
    if (!value && *i + 1 < argc)
        value = argv[++*i];
    if (!value)
        return vd_fail(VD_ERR_USAGE, "%s: --%s wants a value: %s", c->name, o->name, o->value);
    return set_option(c, o, value);
}

vd_status cli_parse(cli_command *c, int argc, char **argv, bool *done) {
    bool options_end = false;
    *done = false;
    for (int i = 0; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--help") == 0) {
            print_help(c);
            *done = true;
            return VD_OK;
        }
        if (!options_end && strcmp(argv[i], "--") == 0) {
            options_end = true;
        } else if (!options_end && argv[i][0] == '-' && argv[i][1]) {
            vd_status st = parse_dashed(c, argc, argv, &i);
            if (st != VD_OK)
                return st;
        } else if (c->positional_count < c->positional_max) {
            c->positional[c->positional_count++] = argv[i];
        } else {
            return vd_fail(VD_ERR_USAGE, "%s: unexpected argument \"%s\"", c->name, argv[i]);
        }
    }
    return VD_OK;
}

void cli_command_free(cli_command *c) {
    owned_text *node = c->owned;
    while (node) {
        owned_text *next = node->next;
        free(node->text);
        free(node);
        node = next;
    }
    c->owned = NULL;
}

int cli_report(vd_status status) {
    if (status != VD_OK)
        fprintf(stderr, "vidilate: %s\n", vd_error_message());
    return vd_exit_code(status);
}
