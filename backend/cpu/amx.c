#include "backend/cpu/amx.h"

/* The second name is that of clang before 16. */
#if (defined(__AMX_BF16__) || defined(__AMXBF16__)) && defined(__linux__)

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* C_ROW: bytes of a row of sums; LOWER: where the second 16 rows begin. */
enum {
    REQUEST_PERMISSION = 0x1023,
    TILE_DATA = 18,
    ROW_BYTES = 64,
    LINE = 64,
    C_ROW = 128,
    LOWER = 2048
};

bool vd_amx_request(void) {
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

void vd_amx_begin(void) {
    /* Palette 1: eight tiles of 16 rows of 64 bytes. */
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1,
                .row_bytes = {ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES,
                              ROW_BYTES, ROW_BYTES},
                .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&config);
}

void vd_amx_end(void) {
    _tile_release();
}

/* Two tiles of rows by two of columns: each tile that is loaded is used twice. Brings `lines` lines
 * from `ahead` on nearer in each step. */
static inline void two_tiles(float *c, const unsigned char *upper, const unsigned char *lower,
                             const vd_amx_rows *a, const unsigned char *b, int64_t depth, bool add,
                             const unsigned char *ahead, int lines) {
    unsigned char *sums = (unsigned char *)c;
    if (add) {
        _tile_loadd(0, sums, C_ROW);
        _tile_loadd(1, sums + 64, C_ROW);
        _tile_loadd(2, sums + LOWER, C_ROW);
        _tile_loadd(3, sums + LOWER + 64, C_ROW);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < depth; k++) {
        _tile_loadd(6, b, ROW_BYTES);
        _tile_loadd(4, upper, a->row);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + VD_AMX_TILE_BYTES, ROW_BYTES);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, lower, a->row);
        for (int i = 0; i < lines; i++, ahead += LINE)
            _mm_prefetch((const char *)ahead, _MM_HINT_T1);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        upper += a->step;
        lower += a->step;
        b += VD_AMX_STEP_BYTES;
    }
    _tile_stored(0, sums, C_ROW);
    _tile_stored(1, sums + 64, C_ROW);
    _tile_stored(2, sums + LOWER, C_ROW);
    _tile_stored(3, sums + LOWER + 64, C_ROW);
}

static inline void one_tile(float *c, const unsigned char *rows, const vd_amx_rows *a,
                            const unsigned char *b, int64_t depth, bool add) {
    unsigned char *sums = (unsigned char *)c;
    if (add) {
        _tile_loadd(0, sums, C_ROW);
        _tile_loadd(1, sums + 64, C_ROW);
    } else {
        _tile_zero(0);
        _tile_zero(1);
    }
    for (int64_t k = 0; k < depth; k++) {
        _tile_loadd(6, b, ROW_BYTES);
        _tile_loadd(4, rows, a->row);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + VD_AMX_TILE_BYTES, ROW_BYTES);
        _tile_dpbf16ps(1, 4, 7);
        rows += a->step;
        b += VD_AMX_STEP_BYTES;
    }
    _tile_stored(0, sums, C_ROW);
    _tile_stored(1, sums + 64, C_ROW);
}

void vd_amx_block(float *c, const vd_amx_rows *a, const unsigned char *b, const vd_amx_span *span,
                  int64_t spans, bool add) {
    enum { LINES_A_STEP = VD_AMX_STEP_BYTES / LINE };
    const int64_t pairs = a->tiles / 2;
    const int lines = pairs == 0 ? 0 : (int)((LINES_A_STEP + pairs - 1) / pairs);
    for (int64_t s = 0; s < spans; s++) {
        const unsigned char *from = a->a + span[s].a, *weights = b + span[s].b;
        /* While a span of B is used by all rows, the next one comes nearer. */
        const unsigned char *ahead = s + 1 < spans ? b + span[s + 1].b : weights;
        const bool more = add || s > 0;
        for (int64_t i = 0; i < pairs; i++) {
            two_tiles(c + i * 2 * VD_AMX_ROWS * VD_AMX_COLUMNS, from + a->tile[2 * i],
                      from + a->tile[2 * i + 1], a, weights, span[s].depth, more, ahead, lines);
            ahead += span[s].depth * lines * LINE;
        }
        if (a->tiles % 2 != 0)
            one_tile(c + pairs * 2 * VD_AMX_ROWS * VD_AMX_COLUMNS, from + a->tile[2 * pairs], a,
                     weights, span[s].depth, more);
    }
}

void vd_amx_two(float *c, const unsigned char *a, int64_t tiles, const unsigned char *b,
                vd_amx_ready *ready, void *user) {
    enum { TILE_SUMS = VD_AMX_ROWS * VD_AMX_COLUMNS };
    _tile_loadd(4, b, ROW_BYTES);
    _tile_loadd(5, b + VD_AMX_TILE_BYTES, ROW_BYTES);
    _tile_loadd(6, b + VD_AMX_STEP_BYTES, ROW_BYTES);
    _tile_loadd(7, b + VD_AMX_STEP_BYTES + VD_AMX_TILE_BYTES, ROW_BYTES);
    for (int64_t i = 0; i < tiles; i++, a += (ptrdiff_t)2 * VD_AMX_TILE_BYTES) {
        float *sums = c + i % 2 * TILE_SUMS;
        _tile_loadd(2, a, ROW_BYTES);
        _tile_loadd(3, a + VD_AMX_TILE_BYTES, ROW_BYTES);
        _tile_zero(0);
        _tile_dpbf16ps(0, 2, 4);
        _tile_dpbf16ps(0, 3, 6);
        _tile_zero(1);
        _tile_dpbf16ps(1, 2, 5);
        _tile_dpbf16ps(1, 3, 7);
        _tile_stored(0, sums, C_ROW);
        _tile_stored(1, sums + VD_AMX_COLUMNS / 2, C_ROW);
        if (i > 0)
            ready(user, i - 1, c + (i - 1) % 2 * TILE_SUMS);
    }
    if (tiles > 0)
        ready(user, tiles - 1, c + (tiles - 1) % 2 * TILE_SUMS);
}

#else

bool vd_amx_request(void) {
    return false;
}

void vd_amx_begin(void) {
}

void vd_amx_end(void) {
}

void vd_amx_block(float *c, const vd_amx_rows *a, const unsigned char *b, const vd_amx_span *span,
                  int64_t spans, bool add) {
    (void)c, (void)a, (void)b, (void)span, (void)spans, (void)add;
}

void vd_amx_two(float *c, const unsigned char *a, int64_t tiles, const unsigned char *b,
                vd_amx_ready *ready, void *user) {
    (void)c, (void)a, (void)tiles, (void)b, (void)ready, (void)user;
}

#endif
