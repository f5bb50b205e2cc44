#include <math.h>

#include "backend/backend_impl.h"

bool vd_kernel_map_is_symmetric(const vd_kernel_map *map) {
    const double rounding = 1e-9; /* of entries around 1 that a solver gave */
    const int last = map->taps - 1;
    for (int y = 0; y < map->taps; y++)
        for (int x = 0; x < map->taps; x++)
            for (int j = 0; j < 9; j++) {
                const double value = map->values[(y * map->taps + x) * 9 + j];
                const int down = j / 3, across = j % 3;
                const double flipped =
                    map->values[((last - y) * map->taps + x) * 9 + (2 - down) * 3 + across];
                const double turned =
                    map->values[(y * map->taps + last - x) * 9 + down * 3 + 2 - across];
                if (!(fabs(value - flipped) <= rounding && fabs(value - turned) <= rounding))
                    return false;
            }
    return true;
}
