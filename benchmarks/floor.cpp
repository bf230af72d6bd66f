// How many multiply-adds this machine can do: eight independent chains of sixteen floats that never leave the registers.

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

typedef float Lanes __attribute__((vector_size(64)));

static float chains(int64_t rounds) {
    Lanes sums[8] = {}, scale = Lanes{} + 0.999f, add = Lanes{} + 1e-3f;
    for (int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < 8; ++i) sums[i] = sums[i] * scale + add;
    float total = 0;
    for (int i = 0; i < 8; ++i) total += sums[i][0];
    return total;
}

// Floating point operations a second, all threads together.
extern "C" double multiply_adds(int64_t threads, int64_t rounds) {
    std::vector<float> kept(threads);
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i) others.emplace_back([&, i] { kept[i] = chains(rounds); });
    kept[0] = chains(rounds);
    for (auto& other : others) other.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    volatile float sink = kept[threads - 1];
    (void)sink;
    return double(threads) * double(rounds) * 8 * 16 * 2 / seconds;
}
