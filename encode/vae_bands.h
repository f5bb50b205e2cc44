/* The exact decode in bands: what of the decoder is kept, and what is computed again.
 *
 * A chain of units is cut into segments. The activation between two segments is kept whole; inside
 * a segment there are only bands of rows, each computed from the kept one through all units with
 * the halo that their convolutions need. A norm inside a segment wants the statistics of an
 * activation that is not kept, so the bands up to it are computed once more for those alone.
 */
#ifndef VD_ENCODE_VAE_BANDS_H
#define VD_ENCODE_VAE_BANDS_H

#include "encode/vae_impl.h"

typedef struct vd_band_chain {
    const vd_vae_unit *unit;
    int count;
    int64_t h, w;       /* of the chain's input */
    size_t value_bytes; /* of an activation's element */
    bool ends_outside;  /* the last unit's result is not in the arena */
} vd_band_chain;

typedef struct vd_band_segment {
    int first, end; /* units first..end-1 */
    bool keep;      /* of a single resnet: between its convolutions is kept, too */
    int64_t rows;   /* of a band, at the segment's end */
} vd_band_segment;

/* The segments that compute least within memory_bytes, or within the least memory that there is a
 * way for. Returns how many. The answer depends on the arguments alone. */
int vd_band_plan(const vd_band_chain *chain, size_t memory_bytes,
                 vd_band_segment segment[VD_VAE_MAX_UNITS]);

/* Rows that a kept activation has beyond the picture's: see vae_bands.c. */
enum { VD_BAND_SPARE_ROWS = 2 };

/* Aligned bytes of unit `index`'s input, kept whole; the index may be the chain's count. */
size_t vd_band_kept_bytes(const vd_band_chain *chain, int index);

/* The most that is kept at once: a segment's input, its result and what else it keeps. */
size_t vd_band_most_kept(const vd_band_chain *chain, const vd_band_segment *segment, int count);

typedef struct vd_rows {
    int64_t first, end;
} vd_rows;

/* The rows of a unit's input that rows `out` of its result are made of, not clamped to the
 * picture. `half`: the result is that of a resnet's first convolution. */
vd_rows vd_band_reach(const vd_vae_unit *unit, vd_rows out, bool half);

/* Whether a segment's result takes the place of what it is made from. */
bool vd_band_in_place(const vd_band_chain *chain, const vd_band_segment *segment);

/* How many times larger than the chain's input unit `index`'s input is, along a side. */
int64_t vd_band_scale(const vd_band_chain *chain, int index);

#endif
