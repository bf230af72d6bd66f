// How many multiply-adds this machine can do: independent chains, a register each, enough of them that none waits for another.
// They start apart: equal chains would be one to the compiler, and count as all.

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#ifdef __AVX512F__
static constexpr int LANES = 16;
#else
static constexpr int LANES = 8;
#endif
static constexpr int CHAINS = 12;

typedef float Lanes __attribute__((vector_size(4 * LANES)));

static float chains(int64_t rounds) {
    Lanes sums[CHAINS], scale = Lanes{} + 0.999f, add = Lanes{} + 1e-3f;
    for (int i = 0; i < CHAINS; ++i) sums[i] = Lanes{} + float(2 + i);  // 1 is where they all end
    for (int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < CHAINS; ++i) sums[i] = sums[i] * scale + add;
    float total = 0;
    for (int i = 0; i < CHAINS; ++i) total += sums[i][0];
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
    return double(threads) * double(rounds) * CHAINS * LANES * 2 / seconds;
}
