// Recorded frames on their way to the flow and back: scaling and smoothing, the warp of a frame in
// its own type, the description of its field. Sums, positions and weights are float64 and in the
// order of pyflowreg.core.frame_warp and pyflowreg.motion_correction.frame_kernels.

// Types that frames have where they are stored.
enum { UINT8, INT8, UINT16, INT16, FLOAT32, FLOAT64 };

DEVICE double stored(const void* values, int type, Offset i) {
    switch (type) {
        case UINT8:
            return static_cast<const unsigned char*>(values)[i];
        case INT8:
            return static_cast<const signed char*>(values)[i];
        case UINT16:
            return static_cast<const unsigned short*>(values)[i];
        case INT16:
            return static_cast<const short*>(values)[i];
        case FLOAT32:
            return static_cast<const float*>(values)[i];
        default:
            return static_cast<const double*>(values)[i];
    }
}

// Store a number; of integers, halves are rounded away from zero, and they are kept within the
// range of the type.
DEVICE void store(double value, void* values, int type, Offset i) {
    if (type == FLOAT32) {
        static_cast<float*>(values)[i] = static_cast<float>(value);
        return;
    }
    if (type == FLOAT64) {
        static_cast<double*>(values)[i] = value;
        return;
    }
    const double low = type == INT8 ? -128.0 : (type == INT16 ? -32768.0 : 0.0);
    const double high = type == UINT8    ? 255.0
                        : type == INT8   ? 127.0
                        : type == UINT16 ? 65535.0
                                         : 32767.0;
    value = value > low ? value : low;
    value = value < high ? value : high;
    double whole = trunc(value);
    const double part = value - whole;
    whole += part >= 0.5 ? 1.0 : (part <= -0.5 ? -1.0 : 0.0);
    const int number = static_cast<int>(whole);
    switch (type) {
        case UINT8:
            static_cast<unsigned char*>(values)[i] = static_cast<unsigned char>(number);
            break;
        case INT8:
            static_cast<signed char*>(values)[i] = static_cast<signed char>(number);
            break;
        case UINT16:
            static_cast<unsigned short*>(values)[i] = static_cast<unsigned short>(number);
            break;
        default:
            static_cast<short*>(values)[i] = static_cast<short>(number);
    }
}

// How the channels are scaled and smoothed: ``factor frame - offset``, symmetric kernels of radii
// `radius` that begin `stride` numbers apart.
struct Smoothing {
    const double *factor, *offset;
    int clip;
    const int* radius;
    const double* kernels;
    int stride;
};

template <class Real>
DEVICE Real scaled(const void* frames, int type, Offset i, const Smoothing& how, int channel) {
    double value = stored(frames, type, i) * how.factor[channel] - how.offset[channel];
    if (how.clip) {
        value = value > 0.0 ? value : 0.0;
        value = value < 1.0 ? value : 1.0;
    }
    return static_cast<Real>(value);
}

// Frames (n, H, W, C) to planes (n, C, H, W), scaled, and smoothed down the columns.
// Grid: parts of a plane, planes.
template <class Real>
DEVICE void scale_and_smooth_down(const void* RESTRICT frames, int type, int channels, int height,
                                  int width, Smoothing how, Real* RESTRICT out) {
    const int channel = static_cast<int>(blockIdx.y) % channels;
    const Offset area = static_cast<Offset>(height) * width;
    const Offset frame = static_cast<Offset>(blockIdx.y) / channels * area * channels + channel;
    const int radius = how.radius[channel];
    const double* kernel = how.kernels + channel * how.stride;
    FOR_PART(i, height * width) {
        const int y = i / width, x = i - y * width;
        const auto pixel = [&](int row) {
            const Offset place = frame + (static_cast<Offset>(row) * width + x) * channels;
            return static_cast<double>(scaled<Real>(frames, type, place, how, channel));
        };
        double total = pixel(y) * kernel[radius];
        for (int k = radius; k > 0; --k) {
            const double pair = pixel(largest(y - k, 0)) + pixel(smallest(y + k, height - 1));
            total += pair * kernel[radius - k];
        }
        out[blockIdx.y * area + i] = static_cast<Real>(total);
    }
}

// Planes (n, C, H, W) smoothed along the rows. Grid: parts of a plane, planes.
template <class Real>
DEVICE void smooth_across(const Real* RESTRICT planes, int channels, int height, int width,
                          const int* RESTRICT radii, const double* RESTRICT kernels, int stride,
                          Real* RESTRICT out) {
    const int channel = static_cast<int>(blockIdx.y) % channels;
    const Offset first = static_cast<Offset>(blockIdx.y) * height * width;
    const int radius = radii[channel];
    const double* kernel = kernels + channel * stride;
    FOR_PART(i, height * width) {
        const int y = i / width, x = i - y * width;
        const Real* row = planes + first + y * width;
        double total = static_cast<double>(row[x]) * kernel[radius];
        for (int k = radius; k > 0; --k) {
            const double pair = static_cast<double>(row[largest(x - k, 0)]) +
                                static_cast<double>(row[smallest(x + k, width - 1)]);
            total += pair * kernel[radius - k];
        }
        out[first + i] = static_cast<Real>(total);
    }
}

// Planes (`count`, C, H W) smoothed in time; `out` takes those of the frames from `from` on.
// Grid: parts of a plane, planes of the result.
template <class Real>
DEVICE void smooth_in_time(const Real* RESTRICT planes, int count, int from, int channels, int area,
                           const int* RESTRICT radii, const double* RESTRICT kernels, int stride,
                           Real* RESTRICT out) {
    const int channel = static_cast<int>(blockIdx.y) % channels;
    const int frame = from + static_cast<int>(blockIdx.y) / channels;
    const int radius = radii[channel];
    const double* kernel = kernels + channel * stride;
    FOR_PART(i, area) {
        const auto pixel = [&](int number) {
            const Offset plane = static_cast<Offset>(number) * channels + channel;
            return static_cast<double>(planes[plane * area + i]);
        };
        double total = pixel(frame) * kernel[radius];
        for (int k = radius; k > 0; --k) {
            const double pair =
                pixel(largest(frame - k, 0)) + pixel(smallest(frame + k, count - 1));
            total += pair * kernel[radius - k];
        }
        out[static_cast<Offset>(blockIdx.y) * area + i] = static_cast<Real>(total);
    }
}

// Planes of displacements (n, 2, H, W) to fields (n, H, W, 2). Grid: parts of a plane, frames.
template <class Real>
DEVICE void interleave(const Real* RESTRICT planes, int area, Real* RESTRICT out) {
    const Offset first = static_cast<Offset>(blockIdx.y) * 2 * area;
    FOR_PART(i, area) {
        out[first + 2 * i] = planes[first + i];
        out[first + 2 * i + 1] = planes[first + area + i];
    }
}

// Sum of b_j a_k values[first + j row_step + k step]: of columns, then of their weighted results.
template <class T>
DEVICE double sampled_of(const T* values, int step, int row_step, const double (&a)[4],
                         const double (&b)[4]) {
    double sums[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const T* column = values + k * step;
        double sum = static_cast<double>(column[0]) * b[0];
#pragma unroll
        for (int j = 1; j < 4; ++j) {
            column += row_step;
            sum = sum + static_cast<double>(column[0]) * b[j];
        }
        sums[k] = sum * a[k];
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

DEVICE double sampled(const void* values, int type, Offset first, int step, int row_step,
                      const double (&a)[4], const double (&b)[4]) {
    switch (type) {
        case UINT8:
            return sampled_of(static_cast<const unsigned char*>(values) + first, step, row_step, a,
                              b);
        case INT8:
            return sampled_of(static_cast<const signed char*>(values) + first, step, row_step, a,
                              b);
        case UINT16:
            return sampled_of(static_cast<const unsigned short*>(values) + first, step, row_step, a,
                              b);
        case INT16:
            return sampled_of(static_cast<const short*>(values) + first, step, row_step, a, b);
        case FLOAT32:
            return sampled_of(static_cast<const float*>(values) + first, step, row_step, a, b);
        default:
            return sampled_of(static_cast<const double*>(values) + first, step, row_step, a, b);
    }
}

// Warp frames (n, H, W, C) by fields (n, H, W, 2), or one for all (`field_step` 0), to planes
// (n, C, H, W); outside samples take `fill` (C, H, W), which has the type of the result. `valid`,
// (H, W) per field, is 255 where the sample lies in the closed image box, else 0.
// Grid: parts of a plane, frames.
template <class Real>
DEVICE void warp_frames(const void* RESTRICT frames, int type, const Real* RESTRICT fields,
                        Offset field_step, const void* RESTRICT fill, int channels, int height,
                        int width, void* RESTRICT out, int out_type,
                        unsigned char* RESTRICT valid) {
    const int area = height * width;
    const Real* w = fields + static_cast<Offset>(blockIdx.y) * field_step;
    const Offset frame = static_cast<Offset>(blockIdx.y) * channels * area;
    unsigned char* mask = valid + (field_step ? static_cast<Offset>(blockIdx.y) * area : 0);
    FOR_PART(i, area) {
        const int y = i / width, x = i - y * width;
        const double px = x + static_cast<double>(w[2 * i]);
        const double py = y + static_cast<double>(w[2 * i + 1]);
        const bool inside = is_inside(px, py, height, width);
        double a[4], b[4];
        const int column = cubic_weights(inside ? px : 0.0, width, a);
        const int row = cubic_weights(inside ? py : 0.0, height, b);
        for (int c = 0; c < channels; ++c) {
            const Offset place = frame + static_cast<Offset>(c) * area + i;
            if (inside) {
                const Offset corner =
                    frame + (static_cast<Offset>(row) * width + column) * channels;
                const double value =
                    sampled(frames, type, corner + c, channels, width * channels, a, b);
                store(value, out, out_type, place);
            } else {
                const double value = stored(fill, out_type, static_cast<Offset>(c) * area + i);
                store(value, out, out_type, place);
            }
        }
        mask[i] = inside ? 255 : 0;  // with one field, every frame would write the same
    }
}

constexpr int LANES = 64;  // partial sums of a field

// Mean and largest length, divergence and length of the mean of fields (n, H, W, 2), to (n, 4).
// Grid: frames.
template <class Real>
DEVICE void describe(const Real* RESTRICT fields, int height, int width, double* RESTRICT out) {
    __shared__ double lengths[LANES], us[LANES], vs[LANES], squares[LANES];
    __shared__ double across;
    const int area = height * width;
    const Real* w = fields + static_cast<Offset>(blockIdx.x) * 2 * area;
    FOR_BLOCK(lane, LANES + 1) {
        if (lane < LANES) {
            double length = 0, sum_u = 0, sum_v = 0, largest_square = 0;
            for (int i = lane; i < area; i += LANES) {
                const double u = static_cast<double>(w[2 * i]);
                const double v = static_cast<double>(w[2 * i + 1]);
                const double squared = u * u + v * v;
                length += sqrt(squared);
                sum_u += u;
                sum_v += v;
                largest_square = squared > largest_square ? squared : largest_square;
            }
            lengths[lane] = length;
            us[lane] = sum_u;
            vs[lane] = sum_v;
            squares[lane] = largest_square;
        } else {
            // Sums of derivatives are differences of the borders; Sobel's filter weighs them by 8.
            double sum = 0;
            for (int y = 0; y < height; ++y) {
                const Real *first = w + 2 * static_cast<Offset>(y) * width,
                           *last = first + 2 * (width - 1);
                sum += static_cast<double>(*last) - static_cast<double>(*first);
            }
            for (int x = 0; x < width; ++x) {
                const Real *first = w + 2 * x + 1,
                           *last = first + 2 * static_cast<Offset>(height - 1) * width;
                sum += static_cast<double>(*last) - static_cast<double>(*first);
            }
            across = sum;
        }
    }
    __syncthreads();
    FOR_BLOCK(k, 1) {
        double length = 0, u = 0, v = 0, square = 0;
        for (int lane = 0; lane < LANES; ++lane) {
            length += lengths[lane];
            u += us[lane];
            v += vs[lane];
            square = squares[lane] > square ? squares[lane] : square;
        }
        u /= area;
        v /= area;
        double* target = out + 4 * static_cast<Offset>(blockIdx.x);
        target[0] = length / area;
        target[1] = sqrt(square);
        target[2] = 8.0 * across / area;
        target[3] = sqrt(u * u + v * v);
    }
}

#define EXPORT_FRAMES(name, Real)                                                                  \
    EXPORT(scale_and_smooth_down_##name,                                                           \
           (const void* frames, int type, int channels, int height, int width,                     \
            const double* factor, const double* offset, int clip, const int* radius,               \
            const double* kernels, int stride, Real* out),                                         \
           (scale_and_smooth_down<Real>(frames, type, channels, height, width,                     \
                                        Smoothing{factor, offset, clip, radius, kernels, stride},  \
                                        out)))                                                     \
    EXPORT(smooth_across_##name,                                                                   \
           (const Real* planes, int channels, int height, int width, const int* radii,             \
            const double* kernels, int stride, Real* out),                                         \
           smooth_across<Real>(planes, channels, height, width, radii, kernels, stride, out))      \
    EXPORT(smooth_in_time_##name,                                                                  \
           (const Real* planes, int count, int from, int channels, int area, const int* radii,     \
            const double* kernels, int stride, Real* out),                                         \
           smooth_in_time<Real>(planes, count, from, channels, area, radii, kernels, stride, out)) \
    EXPORT(interleave_##name, (const Real* planes, int area, Real* out),                           \
           interleave<Real>(planes, area, out))                                                    \
    EXPORT(warp_frames_##name,                                                                     \
           (const void* frames, int type, const Real* fields, Offset field_step, const void* fill, \
            int channels, int height, int width, void* out, int out_type, unsigned char* valid),   \
           warp_frames<Real>(frames, type, fields, field_step, fill, channels, height, width, out, \
                             out_type, valid))                                                     \
    EXPORT(describe_##name, (const Real* fields, int height, int width, double* out),              \
           describe<Real>(fields, height, width, out))
EXPORT_FRAMES(f32, float)
EXPORT_FRAMES(f64, double)
