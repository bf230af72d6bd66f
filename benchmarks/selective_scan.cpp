// The selective scan as one writes it in C++ for speed: the anchor that the Python side is measured against.
//
//     h[n] = exp(delta A[n]) h[n] + delta u B[n],    y = sum_n C[n] h[n] + D u
//
// Sixteen channels at a time so that the compiler can turn the inner loop into vectors (one AVX-512 register), the state on the stack,
// std::exp left to the vector mathematics library, blocks of channels shared among threads. Forward only.

#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

constexpr int LANES = 16;
constexpr int MOST_STATES = 256;

static void block(const float* u, const float* delta, const float* At, const float* B, const float* C, const float* D, float* y,
                  int64_t time, int64_t channels, int64_t states) {
    alignas(64) float h[MOST_STATES][LANES] = {};
    for (int64_t t = 0; t < time; ++t) {
        alignas(64) float step[LANES], drive[LANES], out[LANES];
        for (int lane = 0; lane < LANES; ++lane) {
            step[lane] = delta[t * channels + lane];
            drive[lane] = step[lane] * u[t * channels + lane];
            out[lane] = D[lane] * u[t * channels + lane];
        }
        for (int64_t n = 0; n < states; ++n) {
            const float b = B[t * states + n], c = C[t * states + n];
            const float* a = At + n * channels;
            for (int lane = 0; lane < LANES; ++lane) {
                h[n][lane] = std::exp(step[lane] * a[lane]) * h[n][lane] + drive[lane] * b;
                out[lane] += c * h[n][lane];
            }
        }
        for (int lane = 0; lane < LANES; ++lane) y[t * channels + lane] = out[lane];
    }
}

// u, delta, y [batch, time, channels], At [states, channels], B, C [batch, time, states], D [channels]; channels a multiple of 16.
extern "C" void selective_scan(const float* u, const float* delta, const float* At, const float* B, const float* C, const float* D, float* y,
                               int64_t batch, int64_t time, int64_t channels, int64_t states, int64_t threads) {
    const int64_t units = batch * (channels / LANES);
    auto share = [=](int64_t first, int64_t last) {
        for (int64_t unit = first; unit < last; ++unit) {
            const int64_t row = unit / (channels / LANES), channel = unit % (channels / LANES) * LANES, at = row * time * channels + channel;
            block(u + at, delta + at, At + channel, B + row * time * states, C + row * time * states, D + channel, y + at, time, channels, states);
        }
    };
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i) others.emplace_back(share, units * i / threads, units * (i + 1) / threads);
    share(0, units / threads);
    for (auto& other : others) other.join();
}
