// Successive over-relaxation of a level, a block per frame; see pyflowreg.core.solver_kernels for
// the method and pyflowreg.core.linear_system for the arithmetic.
//
// On a five-point stencil a lexicographic sweep needs the new left and upper and the old right and
// lower neighbour, so the points of an anti-diagonal are independent, and the next sweep may
// follow two anti-diagonals behind. A pass takes several sweeps through the level at once: in step
// t anti-diagonal t is brought in (its linear system, if the robust weights are renewed, is made
// from the tensors there and then), and sweep k (from 1) goes over anti-diagonal t - 2 k. Between
// two steps is one barrier. What a pass works on lies in a ring of anti-diagonals, in the block's
// shared memory if it fits: memory of the device is read and written once per pass.

constexpr double OMEGA = 1.95;
constexpr double EPSILON = 1e-5;
constexpr int AHEAD = 4;  // anti-diagonals for which the second-level cache is asked in advance

// What is kept of a point: increments, linear system, and with a robust smoothness term the
// weights of the edges.
enum { DU, DV, SCALE_U, SCALE_V, COUPLING, RIGHT_U, RIGHT_V, LEFT, RIGHT, UP, DOWN };
constexpr int SYSTEM = SCALE_U;

template <class Real>
struct LevelData {
    // Of this frame, skewed: tensors (C, 6, size), Laplacian of the displacement (2, size) with a
    // quadratic smoothness term, increments (2, size).
    const Real* tensor;
    const Real* laplacian;
    Real* unknowns;
    // Linear systems (planes, size) that later passes need again, or null.
    Real* kept;
    // Weights of all frames: (C, size) or, with `weight_step` 0, (C). Exponents, first weights (C).
    const Real* weights;
    int weight_step;
    const Real* exponents;
    const Real* starts;
    int channels, size;
    Real ax, ay;
    // With a robust smoothness term: displacement before (2, H, W), the same with the increments
    // and a border (2, H + 2, W + 2), and the weights made of it (H + 2, W + 2).
    const Real* field;
    Real* rim;
    Real* psi;
    Real exponent, epsilon, cx, cy;
};

// The last `slots` anti-diagonals, of `length` points at most. In shared memory all numbers of a
// point lie together (their count is odd, so that a warp finds them in different banks), in memory
// of the device those of neighbouring points.
template <class Real, bool ROBUST, bool SHARED>
struct Ring {
    static constexpr int PLANES = ROBUST ? DOWN + 1 : RIGHT_V + 1;
    static constexpr int STEP = SHARED ? PLANES : 1;
    Real* first;
    int slots, length;

    DEVICE Real* points(const Ring& ring, int slot) {
        return ring.first + slot * (PLANES * ring.length);
    }
    DEVICE int plane(const Ring& ring, int number) {
        return SHARED ? number : number * ring.length;
    }
};

DEVICE int slot_before(int slot, int steps, int slots) {
    return slot < steps ? slot - steps + slots : slot - steps;
}

template <class Real>
DEVICE Real robust_weight(const Real (&j)[6], Real du, Real dv, Real a) {
    const Real mixed = multiply_add(j[4], du, j[5] * dv) + j[3] * du * dv;
    const Real pure = multiply_add(j[0] * du, du, multiply_add(j[1] * dv, dv, j[2]));
    const Real value = multiply_add(mixed, Real(2), pure);
    return a * power((value > 0 ? value : Real(0)) + static_cast<Real>(EPSILON), a - Real(1));
}

template <class Real>
struct Edges {
    Real left, right, up, down;
};

template <class Real>
DEVICE Real weighted_laplacian(const Real* plane, int y, int x, int height, int width,
                               const Edges<Real>& edges) {
    const Real p = plane[y * width + x];
    const Real left = plane[y * width + clamped(x - 1, width)];
    const Real right = plane[y * width + clamped(x + 1, width)];
    const Real up = plane[clamped(y - 1, height) * width + x];
    const Real down = plane[clamped(y + 1, height) * width + x];
    return (edges.left * (left - p) + edges.right * (right - p)) +
           (edges.up * (up - p) + edges.down * (down - p));
}

// The linear system of one point at the present increments, to `point`, whose numbers lie `step`
// apart.
template <class Real, bool ROBUST>
DEVICE void fold(const LevelData<Real>& data, Skewed level, int y, int x, int place, bool start,
                 Real du, Real dv, Real* point, int step) {
    Real j11 = 0, j22 = 0, j12 = 0, j13 = 0, j23 = 0;
    for (int c = 0; c < data.channels; ++c) {
        Real j[6];
#pragma unroll
        for (int k = 0; k < 6; ++k) {
            j[k] = data.tensor[static_cast<Offset>(c * 6 + k) * data.size + place];
        }
        const Real own = start ? data.starts[c] : robust_weight(j, du, dv, data.exponents[c]);
        const Real given = data.weight_step
                               ? data.weights[static_cast<Offset>(c) * data.size + place]
                               : data.weights[c];
        const Real factor = given * own;
        j11 = multiply_add(factor, j[0], j11);
        j22 = multiply_add(factor, j[1], j22);
        j12 = multiply_add(factor, j[3], j12);
        j13 = multiply_add(factor, j[4], j13);
        j23 = multiply_add(factor, j[5], j23);
    }
    Edges<Real> edges = {data.ax, data.ax, data.ay, data.ay};
    Real laplace_u, laplace_v;
    if (ROBUST) {
        const int height = level.height, width = level.width;
        if (!start) {
            const Real* psi = data.psi + (y + 1) * (width + 2) + x + 1;
            const Real half = Real(0.5), centre = psi[0];
            edges.left = data.ax * (half * (psi[-1] + centre));
            edges.right = data.ax * (half * (psi[1] + centre));
            edges.up = data.ay * (half * (psi[-(width + 2)] + centre));
            edges.down = data.ay * (half * (psi[width + 2] + centre));
        }
        point[LEFT * step] = edges.left;
        point[RIGHT * step] = edges.right;
        point[UP * step] = edges.up;
        point[DOWN * step] = edges.down;
        const Real* field = data.field;
        laplace_u = weighted_laplacian(field, y, x, height, width, edges);
        laplace_v = weighted_laplacian(field + height * width, y, x, height, width, edges);
    } else {
        laplace_u = data.laplacian[place];
        laplace_v = data.laplacian[data.size + place];
    }
    const Real around = (edges.left + edges.right) + (edges.up + edges.down);
    const Real omega = static_cast<Real>(OMEGA);
    point[SCALE_U * step] = omega / (around + j11);
    point[SCALE_V * step] = omega / (around + j22);
    point[COUPLING * step] = j12;
    point[RIGHT_U * step] = laplace_u - j13;
    point[RIGHT_V * step] = laplace_v - j23;
}

// Bring point `i` of anti-diagonal `d` into the ring.
template <class Real, bool ROBUST, bool SHARED>
DEVICE void bring_in(const LevelData<Real>& data, const Ring<Real, ROBUST, SHARED>& ring,
                     Skewed level, int d, int i, int slot, bool folding, bool start) {
    using Points = Ring<Real, ROBUST, SHARED>;
    const int place = level.base[d] + i, step = Points::plane(ring, 1);
    const Real du = data.unknowns[place], dv = data.unknowns[data.size + place];
    Real* point = Points::points(ring, slot) + i * Points::STEP;
    point[DU * step] = du;
    point[DV * step] = dv;
    if (folding) {
        const int y = Skewed::first_row(d, level.width) + i;
        fold<Real, ROBUST>(data, level, y, d - y, place, start, du, dv, point, step);
    }
    if (data.kept != nullptr) {
        for (int k = SYSTEM; k < Points::PLANES; ++k) {
            Real* far = data.kept + static_cast<Offset>(k - SYSTEM) * data.size + place;
            if (folding) {
                *far = point[k * step];
            } else {
                point[k * step] = *far;
            }
        }
    }
}

// Ask for what `bring_in` will read.
template <class Real, bool ROBUST>
DEVICE void announce(const LevelData<Real>& data, int place, bool folding) {
    fetch_ahead(data.unknowns + place);
    fetch_ahead(data.unknowns + data.size + place);
    if (folding) {
        for (int k = 0; k < 6 * data.channels; ++k) {
            fetch_ahead(data.tensor + static_cast<Offset>(k) * data.size + place);
        }
        if (!ROBUST) {
            fetch_ahead(data.laplacian + place);
            fetch_ahead(data.laplacian + data.size + place);
        }
    }
}

// One point of one sweep. A neighbour outside the frame has the point's own value before.
template <class Real, bool ROBUST, bool SHARED>
DEVICE void relax(const LevelData<Real>& data, const Ring<Real, ROBUST, SHARED>& ring, Skewed level,
                  int d, int y, int i, int slot, bool last) {
    using Points = Ring<Real, ROBUST, SHARED>;
    constexpr int STEP = Points::STEP;
    const int x = d - y;
    // Anti-diagonals that do not begin in the first row begin one row lower than the one before.
    const int from = d >= level.width, to = d + 1 >= level.width;
    Real* here = Points::points(ring, slot) + i * STEP;
    const Real* left_of =
        Points::points(ring, slot_before(slot, 1, ring.slots)) + (i + from) * STEP;
    const int next = slot + 1 == ring.slots ? 0 : slot + 1;
    const Real* right_of = Points::points(ring, next) + (i - to) * STEP;
    const bool has_left = x > 0, has_up = y > 0;
    const bool has_right = x < level.width - 1, has_down = y < level.height - 1;
    const auto at = [&](int number) { return Points::plane(ring, number); };
    Edges<Real> edges = {data.ax, data.ax, data.ay, data.ay};
    if (ROBUST) edges = {here[at(LEFT)], here[at(RIGHT)], here[at(UP)], here[at(DOWN)]};
    // Rounded as OMEGA is: the difference would act like a force that pulls increments to zero.
    const Real keep = Real(1) - static_cast<Real>(OMEGA);
    const Real coupling = here[at(COUPLING)];
    Real other = here[at(DV)];
#pragma unroll
    for (int component = 0; component < 2; ++component) {
        const int own = at(DU + component);
        const Real centre = here[own];
        const Real left = has_left ? left_of[own] : centre;
        const Real up = has_up ? left_of[own - STEP] : centre;
        const Real right = has_right ? right_of[own] : centre;
        const Real down = has_down ? right_of[own + STEP] : centre;
        Real rest = multiply_add(edges.right, right, here[at(RIGHT_U + component)]);
        rest = multiply_add(edges.down, down, rest) - coupling * other;
        const Real sum = multiply_add(edges.left, left, multiply_add(edges.up, up, rest));
        other = multiply_add(here[at(SCALE_U + component)], sum, keep * centre);
        here[own] = other;
        if (last) data.unknowns[component * data.size + level.base[d] + i] = other;
    }
}

// `sweeps` sweeps over the level, all under way at the same time.
template <class Real, bool ROBUST, bool SHARED>
DEVICE void pass(const LevelData<Real>& data, const Ring<Real, ROBUST, SHARED>& ring, Skewed level,
                 int sweeps, bool folding, bool start) {
    const int diagonals = level.height + level.width - 1;
    const int first_sweep = static_cast<int>(threadIdx.x) / ring.length;
    const int first_item = static_cast<int>(threadIdx.x) - first_sweep * ring.length;
    int slot = 0;
    for (int t = 0; t < diagonals + 2 * sweeps; ++t) {
        int k = first_sweep, i = first_item;
        while (k <= sweeps) {
            const int d = t - 2 * k;
            const int y = Skewed::first_row(d, level.width) + i;
            if (d >= 0 && d < diagonals && y <= d && y < level.height) {
                const int place = slot_before(slot, 2 * k, ring.slots);
                if (k > 0) {
                    relax(data, ring, level, d, y, i, place, k == sweeps);
                } else {
                    bring_in(data, ring, level, d, i, place, folding, start);
                    if (d + AHEAD < diagonals) {
                        announce<Real, ROBUST>(data, level.base[d + AHEAD] + i, folding);
                    }
                }
            }
            i += static_cast<int>(blockDim.x);
            while (i >= ring.length) {
                i -= ring.length;
                ++k;
            }
        }
        __syncthreads();
        slot = slot + 1 == ring.slots ? 0 : slot + 1;
    }
}

// The border around the displacement with the outermost increments, as before a sweep.
template <class Real>
DEVICE void old_rim(const LevelData<Real>& data, Skewed level) {
    const int height = level.height, width = level.width;
    const int stride = width + 2, area = (height + 2) * stride;
    FOR_BLOCK(item, 2 * 2 * (height + width + 2)) {
        const int c = item & 1, i = item >> 1;
        int y, x;
        if (i < 2 * stride) {
            y = i < stride ? 0 : height + 1;
            x = i < stride ? i : i - stride;
        } else {
            y = (i - 2 * stride) / 2 + 1;
            x = (i & 1) ? width + 1 : 0;
        }
        const int row = clamped(y - 1, height), column = clamped(x - 1, width);
        const Real before = data.field[(c * height + row) * width + column];
        const Real increment = data.unknowns[c * data.size + Skewed::place(level, row, column)];
        data.rim[c * area + y * stride + x] = before + increment;
    }
    __syncthreads();
}

// Robust weight of the smoothness term at every point and on the border around.
template <class Real>
DEVICE void update_smoothness(const LevelData<Real>& data, Skewed level) {
    const int height = level.height, width = level.width;
    const int stride = width + 2, area = (height + 2) * stride;
    FOR_BLOCK(i, 2 * height * width) {
        const int c = i / (height * width), pixel = i - c * height * width;
        const int y = pixel / width, x = pixel - y * width;
        const Real increment = data.unknowns[c * data.size + Skewed::place(level, y, x)];
        data.rim[c * area + (y + 1) * stride + x + 1] = increment + data.field[i];
    }
    __syncthreads();
    FOR_BLOCK(i, area) {
        const int y = i / stride, x = i - y * stride;
        const int upper = largest(y - 1, 0), lower = smallest(y + 1, height + 1);
        const int left = largest(x - 1, 0), right = smallest(x + 1, width + 1);
        const Real scale_y = lower - upper == 2 ? data.cy : Real(2) * data.cy;
        const Real scale_x = right - left == 2 ? data.cx : Real(2) * data.cx;
        Real squared = data.epsilon;
        for (int c = 0; c < 2; ++c) {
            const Real* plane = data.rim + c * area;
            const Real dx = (plane[y * stride + right] - plane[y * stride + left]) * scale_x;
            const Real dy = (plane[lower * stride + x] - plane[upper * stride + x]) * scale_y;
            squared += dx * dx + dy * dy;
        }
        data.psi[i] = power(squared, data.exponent - Real(1)) * data.exponent;
    }
    __syncthreads();
}

// All sweeps of a level. `fused` sweeps at most are under way at the same time.
template <class Real, bool ROBUST, bool SHARED>
DEVICE void relaxation(const LevelData<Real>& data, const Ring<Real, ROBUST, SHARED>& ring,
                       Skewed level, int fused, int iterations, int update_lag) {
    FOR_BLOCK(i, 2 * data.size) data.unknowns[i] = 0;
    __syncthreads();
    if (ROBUST) old_rim(data, level);
    int done = 0;
    while (done < iterations) {
        const bool update = (done + 1) % update_lag == 0;
        const int begin = done;
        const int stop =
            smallest((done + 1) / update_lag * update_lag + update_lag - 1, iterations);
        if (ROBUST && update) update_smoothness(data, level);
        while (done < stop) {
            int count = smallest(fused, stop - done);
            if (ROBUST) {
                // The last sweep before an update alone, to see the border before it.
                count = smallest(fused, largest(stop - done - 1, 1));
                if (stop - done == 1) old_rim(data, level);
            }
            pass(data, ring, level, count, done == begin, !update);
            done += count;
        }
    }
}

// Solve a level of frames. The ring is in `memory`, (n, `memory_step`), or, if that is null, in the
// block's shared memory; `kept` (n, planes, size) may be null, too. Grid: frames.
template <class Real, bool ROBUST>
DEVICE void solve(LevelData<Real> data, Skewed level, int fused, int iterations, int update_lag,
                  int length, Real* memory, Offset memory_step) {
    const Offset frame = blockIdx.x;
    const Offset area = static_cast<Offset>(level.height) * level.width;
    data.tensor += frame * data.channels * 6 * data.size;
    data.unknowns += frame * 2 * data.size;
    if (data.kept != nullptr) {
        data.kept += frame * (Ring<Real, ROBUST, true>::PLANES - SYSTEM) * data.size;
    }
    if (ROBUST) {
        const Offset around = static_cast<Offset>(level.height + 2) * (level.width + 2);
        data.field += frame * 2 * area;
        data.rim += frame * 2 * around;
        data.psi += frame * around;
    } else {
        data.laplacian += frame * 2 * data.size;
    }
    const int slots = 2 * fused + 2;
    if (memory != nullptr) {
        const Ring<Real, ROBUST, false> ring = {memory + frame * memory_step, slots, length};
        relaxation(data, ring, level, fused, iterations, update_lag);
    } else {
        SHARED_MEMORY(shared);
        const Ring<Real, ROBUST, true> ring = {reinterpret_cast<Real*>(shared), slots, length};
        relaxation(data, ring, level, fused, iterations, update_lag);
    }
}

#define EXPORT_SOLVE(name, Real)                                                                   \
    EXPORT_SOLVER(                                                                                 \
        solve_##name,                                                                              \
        (const Real* tensor, const Real* laplacian, Real* unknowns, Real* kept,                    \
         const Real* weights, int weight_step, const Real* exponents, const Real* starts,          \
         int channels, int height, int width, const int* base, int size, Real ax, Real ay,         \
         int fused, int iterations, int update_lag, int length, Real* memory, Offset memory_step), \
        (solve<Real, false>(                                                                       \
            LevelData<Real>{tensor, laplacian, unknowns, kept, weights, weight_step, exponents,    \
                            starts, channels, size, ax, ay},                                       \
            Skewed{height, width, base}, fused, iterations, update_lag, length, memory,            \
            memory_step)))                                                                         \
    EXPORT_SOLVER(                                                                                 \
        solve_robust_##name,                                                                       \
        (const Real* tensor, Real* unknowns, Real* kept, const Real* weights, int weight_step,     \
         const Real* exponents, const Real* starts, int channels, int height, int width,           \
         const int* base, int size, Real ax, Real ay, const Real* field, Real* rim, Real* psi,     \
         Real exponent, Real epsilon, Real cx, Real cy, int fused, int iterations, int update_lag, \
         int length, Real* memory, Offset memory_step),                                            \
        (solve<Real, true>(LevelData<Real>{tensor, nullptr, unknowns, kept, weights, weight_step,  \
                                           exponents, starts, channels, size, ax, ay, field, rim,  \
                                           psi, exponent, epsilon, cx, cy},                        \
                           Skewed{height, width, base}, fused, iterations, update_lag, length,     \
                           memory, memory_step)))
EXPORT_SOLVE(f32, float)
EXPORT_SOLVE(f64, double)
